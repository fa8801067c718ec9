"""The first code of the measuring process: finds the attnprof that started it, and what is installed.

It runs as a script with Python's -I: the current folder and PYTHONPATH are not on `sys.path`. Nothing but the standard
library can be imported before `sys.path` is right.
"""

from __future__ import annotations

import importlib.util
import json
import site
import sys
from importlib.machinery import PathFinder
from pathlib import Path


def start(paths: dict[str, object], channel: dict[str, object]) -> None:
    """Serve the command.

    Args:
        paths: the folder of attnprof (`package`), the folder of the user's own packages (`user_site`; "" for none),
            and `search_path`, where the command looks for modules.
        channel: what `attnprof.measure.worker.main.main` takes.
    """
    if paths["user_site"]:
        site.addsitedir(str(paths["user_site"]))
    wanted = list(map(str, paths["search_path"]))  # type: ignore[call-overload]
    installed = [entry for entry in wanted if entry in sys.path]
    installed += [entry for entry in sys.path if entry not in installed]
    others = [entry for entry in wanted if entry not in installed]
    # Some clusters install packages in folders that PYTHONPATH names.
    complete = all(PathFinder.find_spec(name, installed) for name in ("torch", "msgspec", "numpy", "psutil"))
    sys.path[:] = installed if complete else installed + others
    _load_package(Path(str(paths["package"])))
    from attnprof import import_path
    from attnprof.measure.worker.main import main

    import_path.for_models_only[:] = others
    main(**channel)  # type: ignore[arg-type]


def _load_package(folder: Path) -> None:
    """Import attnprof from its folder, wherever another package of that name may be."""
    spec = importlib.util.spec_from_file_location(
        "attnprof", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules["attnprof"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


if __name__ == "__main__":
    start(json.loads(sys.argv[1]), json.loads(sys.argv[2]))
