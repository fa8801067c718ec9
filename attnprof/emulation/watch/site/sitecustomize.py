"""The start of the watcher in a program that `attnprof run` runs.

Python imports a module `sitecustomize` when it starts, if there is one, and this folder is first on the program's path.
The `sitecustomize` that this one hides is run too. Watching begins when the program has imported torch. A program that
fails before that is reported too, and a file without contents says that Python was started.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_HERE = Path(__file__).parent
_STARTED = ".python"  # emulation/findings_file.py looks for it


class _AfterTorch(MetaPathFinder):
    """A finder that finds torch as the others do, and starts the watcher when torch has been imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find torch, with a loader that starts the watcher; None for any other module."""
        if name != "torch":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_watch(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                atexit.unregister(_report_failure)
                _watch(_folder())

        spec.loader.exec_module = execute_and_watch  # type: ignore[method-assign]
        return spec


def _folder() -> Path:
    return Path(os.environ["ATTNPROF_WATCH_FOLDER"])


def _module(name: str) -> Any:
    """Import a module of the watcher, whose package has another name here: the program may import another attnprof."""
    if "_attnprof_watch" not in sys.modules:
        place = _HERE.parent / "__init__.py"
        spec = importlib.util.spec_from_file_location(
            "_attnprof_watch", place, submodule_search_locations=[str(place.parent)]
        )
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules["_attnprof_watch"] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"_attnprof_watch.{name}")


def _watch(folder: Path) -> None:
    try:
        _module("watcher").Watcher(folder).start()
    except Exception as error:
        found = {"pid": os.getpid(), "command": " ".join(sys.argv), "notes": [f"the watcher failed: {error!r}"]}
        with contextlib.suppress(OSError):
            (folder / f"{os.getpid()}.json").write_text(json.dumps(found), encoding="utf-8")


def _report_failure() -> None:
    """Report an exception that ended the program before it imported torch; a program without one needs no report."""
    with contextlib.suppress(Exception):
        if getattr(sys, "last_value", None) is not None:
            _module("endings").report_without_torch(_folder())


def _run_the_hidden() -> None:
    spec = PathFinder.find_spec("sitecustomize")
    if spec is not None and spec.loader is not None:
        hidden = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = hidden
        spec.loader.exec_module(hidden)


sys.path[:] = [entry for entry in sys.path if Path(entry) != _HERE]
if "ATTNPROF_WATCH_FOLDER" in os.environ:
    sys.meta_path.insert(0, _AfterTorch())
    atexit.register(_report_failure)
    with contextlib.suppress(OSError):
        (_folder() / f"{os.getpid()}{_STARTED}").touch()
_run_the_hidden()
