"""The state of this process that a user's model can change and later cases rely on.

With CUDA cases are measured in one process, one after the other. Behind a model its settings are put back: the current
folder, the environment, torch's default dtype and so on. If it changed functions or classes of a library, or left
threads, the process is replaced.
"""

from __future__ import annotations

import builtins
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

# Values of these types come and go in modules as they are used: counters, caches, flags.
_PLAIN = (int, float, str, bytes, bool, type(None), list, dict, set, tuple)
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
# torch wraps this itself as soon as it compiles (torch/_dynamo/__init__.py).
_WRAPPED_BY_TORCH = ("module torch", "manual_seed")


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - the plain text is compared
    except OSError:
        return ""


def _put_back_folder(folder: str) -> None:
    if folder:
        os.chdir(folder)


def _put_back_environment(environ: Mapping[str, str]) -> None:
    for name in os.environ.keys() - environ.keys():
        del os.environ[name]
    os.environ.update(environ)


def _limits() -> dict[int, tuple[int, int]]:
    """Return the limits of the process by their number: open files, memory and so on (getrlimit(2))."""
    if sys.platform == "win32":
        return {}
    import resource

    numbers = [number for name, number in vars(resource).items() if name.startswith("RLIMIT_")]
    return {number: resource.getrlimit(number) for number in numbers}


def _put_back_limits(limits: Mapping[int, tuple[int, int]]) -> None:
    import resource

    for number, limit in limits.items():
        if resource.getrlimit(number) != limit:
            resource.setrlimit(number, limit)


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _put_back_handlers(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            with suppress(OSError, ValueError):  # one that cannot be changed
                signal.signal(number, handler)


def _running_timers() -> tuple[int, ...]:
    """Return the timers that will send a signal (setitimer(2)); `signal.alarm` sets the first."""
    return tuple(timer for timer in _TIMERS if signal.getitimer(timer)[0])


def _stop_timers(before: tuple[int, ...]) -> None:
    for timer in _TIMERS:
        if timer not in before:
            signal.setitimer(timer, 0)


class _Setting(NamedTuple):
    """A part of the process's state that can be put back."""

    read: Callable[[], Any]
    put_back: Callable[[Any], object]


def _attribute(holder: Any, name: str) -> _Setting:
    return _Setting(lambda: getattr(holder, name), lambda value: setattr(holder, name, value))


_SETTINGS: Mapping[str, _Setting] = {
    "folder": _Setting(_folder, _put_back_folder),
    "environment": _Setting(lambda: dict(os.environ), _put_back_environment),
    "limits": _Setting(_limits, _put_back_limits),
    "recursion limit": _Setting(sys.getrecursionlimit, sys.setrecursionlimit),
    "stdin": _attribute(sys, "stdin"),
    "stdout": _attribute(sys, "stdout"),
    "stderr": _attribute(sys, "stderr"),
    "excepthook": _attribute(sys, "excepthook"),
    "trace": _Setting(sys.gettrace, sys.settrace),
    "timers": _Setting(_running_timers, _stop_timers),
    "signals": _Setting(_handlers, _put_back_handlers),
    "default dtype": _Setting(torch.get_default_dtype, torch.set_default_dtype),
    "gradients": _Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    "deterministic": _Setting(torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "matmul precision": _Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "threads of torch": _Setting(torch.get_num_threads, torch.set_num_threads),
    "cudnn": _attribute(torch.backends.cudnn, "enabled"),
    "cudnn.benchmark": _attribute(torch.backends.cudnn, "benchmark"),
    "cudnn.allow_tf32": _attribute(torch.backends.cudnn, "allow_tf32"),
}


class ProcessState:
    """The state of this process when it is made.

    Functions, classes and streams count by their identity.
    """

    def __init__(self) -> None:
        self._settings = {name: setting.read() for name, setting in _SETTINGS.items()}
        self._held = _held()

    def put_back(self) -> str:
        """Put every setting back that was changed since; return the name of a change that cannot be, or "".

        New names in a module are no change: libraries add to themselves as they are used. In a class they are, since
        they can hide inherited ones.
        """
        for name, before in self._settings.items():
            try:
                if _SETTINGS[name].read() != before:
                    _SETTINGS[name].put_back(before)
                if _SETTINGS[name].read() != before:
                    return name
            except Exception:  # it is not allowed, or the function that does it was replaced
                return name
        now = _held()
        for name, then in self._held.items():
            found = now.get(name)
            if found is None or (name.startswith("class ") and found.keys() - then.keys()):
                return name
            if any(found.get(key) != value for key, value in then.items()):
                return name
        return ""


def _held() -> dict[str, dict[str, int]]:
    """Return the identities of what the loaded modules and the classes of models hold, and of the threads."""
    held = {"threads": {str(thread.ident): 1 for thread in threading.enumerate()}}
    held["number of threads"] = {str(len(held["threads"])): 1}
    for name, holder, every in _holders():
        # Not `isinstance`, which calls properties of lazy objects.
        held[name] = {
            key: id(value) for key, value in tuple(vars(holder).items()) if every or type(value) not in _PLAIN
        }
    module, key = _WRAPPED_BY_TORCH
    if key in held[module]:
        held[module][key] = id(inspect.unwrap(getattr(torch, key)))
    return held


def _holders() -> Iterator[tuple[str, Any, bool]]:
    """Yield what functions are looked up in, with its name and whether all its values count."""
    yield "builtins", builtins, False
    for name, module in tuple(sys.modules.items()):
        # What this process runs as a program is the command's own, and streams are settings.
        if isinstance(module, ModuleType) and name not in ("sys", "__main__", "builtins"):
            yield f"module {name}", module, False
    for kind in (torch.Tensor, nn.Parameter, torch.autograd.Function):
        yield f"class {kind.__name__}", kind, True
    for name, kind in vars(nn).items():
        if isinstance(kind, type):
            yield f"class nn.{name}", kind, True
