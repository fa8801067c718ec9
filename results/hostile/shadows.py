"""Files that have the names of modules, in the current folder and in PYTHONPATH, and a start-up file that chatters.

None may run in a process of attnprof, and none may break a command. A user's model still imports its neighbours.
"""

from __future__ import annotations

import os
import shutil
import sys

from common import ROOT, Tally, check_end, own_home, run, shortened

NAMES = ["torch", "json", "random", "types", "platform", "numpy", "attnprof", "typing", "enum", "re", "os",
         "ctypes", "msgspec",
         "rich", "typer", "psutil", "string", "code", "select", "signal", "record", "inspect", "abc", "copy", "io",
         "platformdirs", "threading", "subprocess", "encodings", "warnings", "sympy", "pandas", "logging"]  # fmt: skip
SWEEP = ["sweep", "--device", "cpu", "--hw", "4", "--strategy", "naive", "--mode", "forward", "--case-seconds", "0.01"]
CARD = ["sweep", "--gpu", "t4", "--hw", "4", "--strategy", "naive", "--mode", "forward"]
MODEL = ["model", "net.py:Net", "--input", "2,8", "--device", "cpu", "--strategy", "as-is", "--case-seconds", "0.01",
         "--no-largest-batch"]  # fmt: skip
NET = """\
import torch
from neighbour import width
class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(8, width)
"""
EVIL = "import sys\nopen({mark!r}, 'a').write(__name__ + ' in ' + ' '.join(sys.argv[:3]) + '\\n')\n{more}\n"
MORE = {"silent": "", "prints": "print('hello from ' + __name__)", "fails": "raise RuntimeError('shadow')",
        "exits": "import os; os._exit(3)"}  # fmt: skip
# A command that the user's own Python runs with the folder first on its path.
CONSOLE = ("-c", "import sys; sys.path.pop(0) if sys.path[0] == '' else None; sys.argv[0] = 'attnprof'; "
           "from attnprof.cli.app import main; main()")  # fmt: skip


def attack(tally: Tally, count: int) -> None:
    """Try the situations: all names at once, chatty start-ups, and the names one by one as `count` allows."""
    program = CONSOLE  # as the installed script does, which does not put the current folder on the path
    for more in MORE:
        for words in (SWEEP, CARD, MODEL, ["doctor"]) if more == "fails" else (SWEEP, MODEL):
            _try(tally, NAMES, more, words, program, f"all names, {more}")
    for more in ("silent", "prints", "fails"):
        _try(tally, ["sitecustomize"], more, SWEEP, program, f"sitecustomize, {more}", in_path=True)
    _try(tally, ["sitecustomize"], "prints", CARD, program, "sitecustomize, prints", in_path=True)
    user_program = ["run", "--gpu", "t4", "--", sys.executable, "-c", "import torch"]
    _try(tally, ["sitecustomize", "usercustomize"], "prints", user_program, program, "sitecustomize, run", in_path=True)
    _try(tally, [], "silent", SWEEP, program, "a folder named attnprof", folders=["attnprof", "torch"])
    _try(tally, [], "silent", MODEL, program, "an odd PYTHONPATH", path=[".", "", "/absent", "/dev/null"])
    for number, name in enumerate(NAMES[: max(0, count - 18)]):
        words = (SWEEP, MODEL, CARD)[number % 3]
        _try(tally, [name], "fails", words, program, f"{name}.py")
    for name in ("json", "random", "types", "numpy"):
        _neighbour(tally, name, program)


def _try(tally, names, more, words, program, what, *, in_path=False, folders=(), path=()):
    """Run a command in a folder with such files; what they do must not be seen."""
    with own_home() as folder:
        mark = folder.parent / "ran"
        place = folder
        if in_path:
            place = folder.parent / "path"
            place.mkdir()
        for name in names:
            (place / f"{name}.py").write_text(EVIL.format(mark=str(mark), more=MORE[more]))
        for name in folders:
            (folder / name).mkdir()
        (folder / "net.py").write_text(NET)
        (folder / "neighbour.py").write_text("width = 4\n")
        environ = dict(os.environ)
        environ["PYTHONPATH"] = os.pathsep.join([str(place)] * in_path + [str(ROOT), *path])
        done = run(words, program=program, limit=120, env=environ)
        tally.tried[what.partition(",")[0] if not what.endswith(".py") else "one name"] += 1
        what = f"{what}: {shortened(' '.join(words), 40)}"
        check_end(tally, done, what)
        if done.code != 0:
            tally.violate("broken", f"{what}: {done.code}: {shortened(done.err[-300:])}")
        ran = mark.read_text() if mark.exists() else ""
        # What stands on PYTHONPATH runs in the user's own Python anyway: there it only must not break anything.
        if ran and not in_path and words is not MODEL:
            tally.violate("foreign code ran", f"{what}: {ran.splitlines()[:3]}")


def _neighbour(tally, name, program):
    """Run a model beside which a file has the name of a module; the model's own neighbour is found."""
    with own_home() as folder:
        shutil.rmtree(folder / "sub", ignore_errors=True)
        (folder / "sub").mkdir()
        (folder / "sub" / "net.py").write_text(NET)
        (folder / "sub" / "neighbour.py").write_text("width = 4\n")
        (folder / "sub" / f"{name}.py").write_text("raise RuntimeError('shadow')\n")
        done = run(["model", "sub/net.py:Net", *MODEL[2:]], program=program, limit=120)
        tally.tried["beside the model"] += 1
        check_end(tally, done, f"beside the model: {name}.py")
        if done.code != 0:
            tally.violate("broken", f"beside the model: {name}.py: {shortened(done.err[-300:])}")
