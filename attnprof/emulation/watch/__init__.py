"""What runs inside a program on an emulated card (`attnprof run`) and reports what became of its memory.

`site/sitecustomize.py` loads this folder by its path, since the program's Python need not have attnprof: nothing
here imports anything else of it, nor torch before the program does. It never breaks the program: an error of
its own ends as a note in the report.
"""
