"""The library of small values, compiled once for the installed torch.

It is C++ against torch's headers, unlike the stand-in libraries. A machine without a C++ compiler does without it: then
everything that a program reads from the card is zeros.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from attnprof.emulation.cache import built
from attnprof.emulation.compiler import CompilerError, run_compiler
from attnprof.emulation.toolkit import Toolkit

_NATIVE = Path(__file__).with_name("native")
_SOURCES = _NATIVE / "values"
_NAME, _FAILED = "libattnprof_values.so", "failed.txt"
_FLAGS = ("-std=c++20", "-O1", "-fPIC", "-shared", "-w")


def values_environment(toolkit: Toolkit, notify: Callable[[str], None] = lambda _: None) -> dict[str, str]:
    """Return the environment variables with which the emulated driver finds the library of values.

    Args:
        toolkit: the installed torch and its libraries.
        notify: called with a line of text before the build, and if there can be no such library here.

    Returns:
        `ATTNPROF_VALUES`, the library's path; or `ATTNPROF_NO_VALUES`, the reason why there is none.

    Raises:
        EmulationError: the cache folder cannot be used.
    """
    compiler = _compiler()
    if not compiler:
        why = "no C++ compiler was found (install g++, or set CXX)"
    else:
        try:
            folder = built(
                f"values-torch-{toolkit.torch}-{_fingerprint(toolkit, compiler)}",
                f"the library of small values for torch {toolkit.torch} (once, about 15 seconds)",
                partial(_build, toolkit, compiler),
                notify,
            )
        except CompilerError as error:
            why = str(error)
        else:
            if (folder / _NAME).exists():
                return {"ATTNPROF_VALUES": str(folder / _NAME)}
            why = (folder / _FAILED).read_text(encoding="utf-8")
    notify(f"values that the program reads from the card are zeros: {why}")
    return {"ATTNPROF_NO_VALUES": why}


def _compiler() -> tuple[str, ...]:
    if os.environ.get("CXX"):
        return tuple(shlex.split(os.environ["CXX"]))
    return next(((name,) for name in ("c++", "g++", "clang++") if shutil.which(name)), ())


def _fingerprint(toolkit: Toolkit, compiler: tuple[str, ...]) -> str:
    """Return a digest of the sources, of torch's library and of the compiler's name."""
    digest = hashlib.sha256()
    for path in [*sorted(_SOURCES.rglob("*.*")), _NATIVE / "values_interface.h", Path(__file__)]:
        digest.update(path.read_bytes())
    digest.update(f"{_torch_library(toolkit).stat().st_size} {' '.join(compiler)}".encode())
    return digest.hexdigest()[:16]


def _torch_library(toolkit: Toolkit) -> Path:
    return toolkit.torch_folder / "lib" / "libc10.so"


def _build(toolkit: Toolkit, compiler: tuple[str, ...], folder: Path) -> list[str]:
    """Build the library in a folder; if the compiler fails, leave the reason, so that it is not tried at each run."""
    headers = toolkit.torch_folder / "include"
    folders = [_NATIVE, _SOURCES / "include", _NATIVE / "include", headers, headers / "torch/csrc/api/include"]
    include = [f"-I{path}" for path in (*folders, *toolkit.includes)]
    names = run_compiler(toolkit.symbols, "--dynamic", "--defined-only", _torch_library(toolkit)).splitlines()
    # Torch's own functions tell: the library also contains parts of the compiler's, with both kinds of strings.
    new = any("N3c10" in name and "__cxx11" in name for name in names)
    new_strings = f"-D_GLIBCXX_USE_CXX11_ABI={int(new)}"
    link = [f"-L{toolkit.torch_folder / 'lib'}", "-ltorch_cpu", "-lc10", "-lc10_cuda"]
    command: list[str | Path] = [
        *compiler,
        *_FLAGS,
        new_strings,
        *include,
        _SOURCES / "values.cpp",
        "-o",
        folder / _NAME,
        *link,
    ]
    try:
        run_compiler(*command, builds="the library of small values", variable="CXX")
    except CompilerError as error:
        if error.passing:
            raise
        (folder / _FAILED).write_text(str(error), encoding="utf-8")
        return [_FAILED]
    return [_NAME]
