"""The watcher inside a program on an emulated card (`attnprof run`), which reports what became of the card's memory.

`site/sitecustomize.py` loads this folder by its path, since the program's Python may not have attnprof. So nothing here
imports anything else of attnprof, and torch is imported only after the program has imported it. The watcher never
breaks the program: an error of its own becomes a note in the report.

What it changes in the program's process:

- `sitecustomize` is replaced; the one that this hides is run too. `sys.meta_path` has one more finder until torch is
  imported.
- `torch.OutOfMemoryError.__init__` and the functions of `torch._C` that read and reset peak statistics are wrapped, and
  the caching allocator records its history (`failures`, `peaks`, `watcher`).
- Each new node of autograd's graph has the line that made it in its `metadata`, as in anomaly mode (`forward_places`).
- PyTorch's default generators of random numbers begin with a fixed seed (`watcher`).
- An optimizer hook, an exit handler, fork handlers and, if the program has none, a SIGTERM handler are added
  (`watcher`).
- `threading.excepthook`, `os._exit`, `os.execv` and `os.execve` are wrapped, to note how the process ends (`endings`).
- Ctrl-C is ignored for the moment in which the final report is written (`watcher`).
"""
