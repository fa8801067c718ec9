"""Loading the user's module from a target such as `net.py:Net`, and naming the line in which it fails."""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from torch import nn


class UserModelError(Exception):
    """The user's code failed or does not contain the name; the message contains the place."""


def load_model(target: str) -> nn.Module:
    """Return the named module, or the module that the named class or function returns without arguments.

    Args:
        target: `PATH.py:NAME` or `package.module:NAME`.

    Raises:
        UserModelError: the file cannot be imported, or the name is not a module or fails to return one.
    """
    place, _, name = target.rpartition(":")
    with_blame: Callable[[BaseException], UserModelError] = partial(blamed, target=target)
    try:
        module = _imported(place)
    except BaseException as error:  # SystemExit of a script without a main guard, too
        raise with_blame(error) from None
    found = getattr(module, name, None)
    if found is None:
        public = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        own = [each for each in public if getattr(vars(module)[each], "__module__", "") == module.__name__]
        raise UserModelError(f"{place} has no {name!r}" + (f": it has {', '.join(own[:8])}" if own else ""))
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise UserModelError(f"{target} is no module and nothing that makes one, but {type(found).__name__}")
    try:
        model = found()
    except Exception as error:
        raise with_blame(error) from None
    if not isinstance(model, nn.Module):
        raise UserModelError(f"{target}() made no torch.nn.Module, but {type(model).__name__}")
    return model


def blamed(error: BaseException, target: str) -> UserModelError:
    """Return the error with the last line of the user's own file that led to it, else the last of any file."""
    words = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0].rstrip(": ")
    place = target.rpartition(":")[0]
    if isinstance(error, SyntaxError) and error.filename:
        return UserModelError(f"{_shown(error.filename)}, line {error.lineno}: {words}")
    frames = traceback.extract_tb(error.__traceback__)
    file = Path(place).resolve() if place.endswith(".py") else None
    own = [frame for frame in frames if file and Path(frame.filename).resolve() == file]
    others = [frame for frame in frames if not _is_plumbing(frame.filename)]
    frame = next(iter([*reversed(own), *reversed(others)]), None)
    if frame is None:
        return UserModelError(f"{target}: {words}")
    source = linecache.getline(frame.filename, frame.lineno or 0).strip()
    return UserModelError(f"{_shown(frame.filename)}, line {frame.lineno}, in {frame.name}: {source}: {words}")


def _imported(place: str) -> ModuleType:
    if not place.endswith(".py"):
        sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(place)
    path = Path(place).resolve()
    sys.path.insert(0, str(path.parent))  # for imports of neighbouring files, as with `python net.py`
    # A file may have the name of a module that is already imported.
    name = path.stem if path.stem not in sys.modules else f"{path.stem} of {path.parent}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pickle and dataclasses look here
    spec.loader.exec_module(module)
    return module


def _is_plumbing(filename: str) -> bool:
    """Return whether a file belongs to Python's import system, torch or attnprof."""
    own = [Path(__file__).parents[2], *(Path(module.__path__[0]) for module in (importlib, torch))]
    return filename.startswith(("<", *map(str, own)))


def _shown(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
