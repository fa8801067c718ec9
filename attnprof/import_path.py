"""The order in which attnprof looks for modules: what is installed comes first. Needs the standard library alone.

Python itself looks into the folder of the script or the current folder first, then into the folders of PYTHONPATH. A
`random.py` or a `torch.py` there would run in place of the module that everybody means.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_PACKAGE = Path(__file__).parent

for_models_only: list[str] = []
"""In the measuring process, the folders that only a user's model may import from, such as those of PYTHONPATH."""


def search_path() -> list[str]:
    """Return the entries of `sys.path`: the installed ones first, then the others. Relative ones are left out."""
    entries = [entry for entry in dict.fromkeys(map(os.fspath, sys.path)) if Path(entry).is_absolute()]
    installed = [os.path.realpath(folder) for folder in _installed_folders()]
    first = [entry for entry in entries if _is_within(entry, installed)]
    return first + [entry for entry in entries if entry not in first]


def use_search_path() -> None:
    """Put `sys.path` of this process into the order of `search_path`, without the entry of the script that runs.

    Only a command may do this, and not a library in somebody else's program.
    """
    isolated = sys.flags.isolated or getattr(sys.flags, "safe_path", False)
    if not isolated and sys.path and Path(sys.path[0] or ".").resolve() != _PACKAGE.parent:
        del sys.path[0]
    sys.path[:] = search_path()


def find_module(name: str) -> ModuleSpec | None:
    """Return the place of a top-level module that the measuring process imports, without importing it."""
    for finder in sys.meta_path:
        found: ModuleSpec | None = finder.find_spec(name, search_path() if finder is PathFinder else None)
        if found is not None:
            return found
    return None


def user_site() -> str:
    """Return the folder of the packages that this user installed for himself; "" if Python does not use it."""
    return site.getusersitepackages() if site.ENABLE_USER_SITE else ""


def _installed_folders() -> Iterator[str]:
    for name in ("stdlib", "platstdlib"):
        folder = Path(sysconfig.get_path(name))
        yield str(folder)
        yield str(folder.with_name(f"python{sys.version_info[0]}{sys.version_info[1]}.zip"))
    yield from site.getsitepackages()
    if user_site():
        yield user_site()


def _is_within(entry: str, folders: list[str]) -> bool:
    place = os.path.realpath(entry)
    return any(place == folder or place.startswith(folder + os.sep) for folder in folders)
