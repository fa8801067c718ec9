"""The command line that starts the measuring process, so that it runs the modules that are installed and no others."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from attnprof.import_path import search_path, user_site

_PACKAGE = Path(__file__).parents[1]


def worker_command() -> tuple[str, ...]:
    """Return the program and arguments of the measuring process; `WorkerProcess` adds the last one.

    Python's -I ignores the variables that begin with PYTHON and does not look into the script's or the current folder.
    `worker/start.py` gets the paths that a model's own imports may need.
    """
    options = ["-I", *(["-B"] if sys.dont_write_bytecode else [])]
    paths = {"package": str(_PACKAGE), "user_site": user_site(), "search_path": search_path()}
    start = Path(__file__).parent / "worker" / "start.py"
    return (sys.executable, *options, str(start), msgspec.json.encode(paths).decode())
