"""Loading the user's module from a target such as `net.py:Net`, and naming the line in which it fails."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

from torch import nn

from attnprof.import_path import for_models_only
from attnprof.measure.places import Line, shown_path, users_line
from attnprof.measure.worker.devices.base import is_out_of_memory
from attnprof.measure.worker.error_text import first_line_of, text_of
from attnprof.measure.worker.owner import leave_if_copy


class UserModelError(Exception):
    """The user's code failed or does not contain the name; the message contains the place."""


def load_model(target: str) -> nn.Module:
    """Return the named module, or the module that the named class or function returns without arguments.

    Args:
        target: `PATH.py:NAME` or `package.module:NAME`.

    Raises:
        UserModelError: the file cannot be imported, or the name is not a module or fails to return one.
        MemoryError: memory does not suffice; or another error that `is_out_of_memory` knows.
    """
    place, _, name = target.rpartition(":")
    with_blame: Callable[[BaseException], UserModelError] = partial(blamed, target=target)
    try:
        module = _imported(place)
    except BaseException as error:  # SystemExit of a script without a main guard, too
        if is_out_of_memory(error):
            raise
        raise with_blame(error) from None
    finally:
        leave_if_copy()
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
    except BaseException as error:
        if is_out_of_memory(error):
            raise
        raise with_blame(error) from None
    finally:
        leave_if_copy()
    if not isinstance(model, nn.Module):
        raise UserModelError(f"{target}() made no torch.nn.Module, but {type(model).__name__}")
    return model


def blamed(error: BaseException, target: str) -> UserModelError:
    """Return the error with the last line of the user's own file that led to it, else the last of any file."""
    name = type(error).__name__.splitlines()[0]
    words = f"{name}: {first_line_of(error)}" if text_of(error) else name
    if isinstance(error, SyntaxError) and error.filename:
        return UserModelError(f"{shown_path(error.filename)}, line {error.lineno}: {words}")
    frames = traceback.extract_tb(error.__traceback__)
    line = users_line([Line(frame.filename, frame.lineno or 0, frame.name) for frame in frames], target)
    return UserModelError(f"{line or target}: {words}")


def _imported(place: str) -> ModuleType:
    if not place.endswith(".py"):
        _look_into(Path.cwd())
        return importlib.import_module(place)
    path = Path(place).resolve()
    _look_into(path.parent)  # for imports of neighbouring files, as with `python net.py`
    # A file may have the name of a module that is already imported.
    name = path.stem if path.stem not in sys.modules else f"{path.stem} of {path.parent}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pickle and dataclasses look here
    spec.loader.exec_module(module)
    return module


def _look_into(folder: Path) -> None:
    """Let the model import from its own folder first, and then from where its user's programs do."""
    added = [str(folder), *for_models_only]
    sys.path[:] = added + [entry for entry in sys.path if entry not in added]
