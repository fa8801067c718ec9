"""The stand-in libraries, compiled once for the installed torch and kept in the user's cache folder.

Each library has the name and symbol version of the one that it replaces, and all of its symbols. The C files define
some of them, and a generated line defines each of the others. That line reports the call as unknown, so that no gap
stays unnoticed, except for cuBLAS functions that only compute.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from attnprof.emulation.cache import built
from attnprof.emulation.compiler import run_compiler
from attnprof.emulation.toolkit import EmulationError, Toolkit

_SOURCES = Path(__file__).with_name("native")
_DRIVER = "libcuda.so.1"
_FLAGS = ("-O1", "-fPIC", "-pthread")

# CUDA_ERROR_NOT_SUPPORTED and cudaErrorNotSupported; CUDNN_STATUS_NOT_SUPPORTED; CUBLAS_STATUS_NOT_SUPPORTED.
_CUDA_UNSUPPORTED, _CUDNN_UNSUPPORTED, _CUBLAS_UNSUPPORTED = 801, 3000, 15
_CUBLAS_QUERIES = re.compile(r"Get|Create|Init|Alloc|Query|Check|Version")


@dataclass(frozen=True)
class _Library:
    """A library to build.

    Attributes:
        soname: its name.
        sources: its C files, under `native/`.
        symbols: finds the functions that it must have.
        otherwise: returns the C expression that a function returns which no C file defines.
        versioned: whether its symbols carry its name as their version.
    """

    soname: str
    sources: tuple[str, ...]
    symbols: Callable[[Toolkit], set[str]]
    otherwise: Callable[[str], str]
    versioned: bool = True


def library_paths(toolkit: Toolkit, notify: Callable[[str], None] = lambda _: None) -> tuple[Path, ...]:
    """Return the libraries to preload, in order; compile them if this is the first time.

    Args:
        toolkit: the installed torch and the compiler.
        notify: called with a line of text before the build.

    Raises:
        EmulationError: the cache folder cannot be written, others can write to it, or the compiler fails.
    """
    libraries = _libraries(toolkit)
    folder = built(
        f"torch-{toolkit.torch}-cuda-{toolkit.cuda}-{_fingerprint(toolkit)}",
        f"the emulated device for torch {toolkit.torch} (once, some seconds)",
        partial(_build, libraries, toolkit),
        notify,
    )
    return tuple(folder / library.soname for library in libraries)


def _libraries(toolkit: Toolkit) -> tuple[_Library, ...]:
    def unknown(status: int, name: str) -> str:
        return f'emu_unknown("{name}", {status})'

    def cublas(name: str) -> str:
        return unknown(_CUBLAS_UNSUPPORTED, name) if _CUBLAS_QUERIES.search(name) else "0"

    def cudnn(name: str) -> str:
        return "0" if "BatchNormalization" in name else unknown(_CUDNN_UNSUPPORTED, name)

    def exports_of(library: str) -> Callable[[Toolkit], set[str]]:
        return lambda toolkit: _symbols(toolkit, toolkit.libraries[library], "--dynamic")

    names = {name: path.name for name, path in toolkit.libraries.items()}
    cuda = partial(unknown, _CUDA_UNSUPPORTED)
    runtime = tuple(f"runtime_{part}.c" for part in ("device", "memory", "streams", "kernels", "images"))
    parts = ("card", "exit", "addresses", "clock", "memory", "shadows", "workspaces", "journal")
    driver = tuple(f"{part}.c" for part in (*parts, "driver", "driver_memory", "driver_modules"))
    dnn = ("cudnn.c", "cudnn_plan.c", "cudnn_order.c", "cudnn_workspace.c")
    return (
        _Library(_DRIVER, driver, _driver_symbols, cuda, versioned=False),
        _Library(names["cudart"], runtime, exports_of("cudart"), cuda),
        _Library(names["cublas"], ("cublas.c",), exports_of("cublas"), cublas),
        _Library(names["cublasLt"], ("cublaslt.c",), exports_of("cublasLt"), cublas),
        _Library(names["cudnn"], dnn, exports_of("cudnn"), cudnn),
        _Library("libnvidia-ml.so.1", ("nvml.c",), lambda _: set(), cuda, versioned=False),
    )


def _fingerprint(toolkit: Toolkit) -> str:
    """Return a digest of the C sources, the libraries that torch brings, and the compiler's name."""
    digest = hashlib.sha256()
    for path in [*sorted(_SOURCES.glob("*.[ch]")), *sorted(_SOURCES.glob("include/**/*.h")), Path(__file__)]:
        digest.update(path.read_bytes())
    for path in [*toolkit.libraries.values(), toolkit.cudnn_graph]:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    digest.update(" ".join(toolkit.compiler).encode())
    return digest.hexdigest()[:16]


def _build(libraries: tuple[_Library, ...], toolkit: Toolkit, folder: Path) -> list[str]:
    """Build all libraries in a folder, and return their names."""
    driver, *others = libraries
    _make(driver, toolkit, folder)
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(_make, library, toolkit, folder) for library in others]:
            done.result()
    for path in [*folder.glob("*.[co]"), *folder.glob("*.map")]:
        path.unlink()
    _require_loadable([folder / library.soname for library in libraries])
    return [library.soname for library in libraries]


def _make(library: _Library, toolkit: Toolkit, folder: Path) -> None:
    """Compile and link one library into a folder, which must contain the driver unless this is the driver."""
    include = [f"-I{path}" for path in (_SOURCES, _SOURCES / "include", *toolkit.includes)]
    objects = []
    for source in library.sources:
        objects.append(folder / source.replace(".c", ".o"))
        run_compiler(*toolkit.compiler, *_FLAGS, *include, "-c", _SOURCES / source, "-o", objects[-1])
    wanted = library.symbols(toolkit)
    defined = set[str]().union(*(_symbols(toolkit, path) for path in objects))
    lines = ["int emu_unknown(const char *, int);"]
    lines += [f"int {name}(void) {{ return {library.otherwise(name)}; }}" for name in sorted(wanted - defined)]
    if library.soname == _DRIVER:
        lines += _plain_names(wanted | defined)
    rest = folder / f"{library.soname}.c"
    rest.write_text("\n".join(lines) + "\n")
    link: list[str | Path] = ["-shared", f"-Wl,-soname,{library.soname}", "-ldl"]
    if library.versioned:
        versions = folder / f"{library.soname}.map"
        versions.write_text(f"{library.soname} {{ global: *; }};\n")
        link.append(f"-Wl,--version-script={versions}")
    if library.soname != _DRIVER:
        link += [folder / _DRIVER, "-Wl,-rpath,$ORIGIN"]
    # -fno-builtin: compilers know some of the generated names with other types.
    run_compiler(*toolkit.compiler, *_FLAGS, "-fno-builtin", *objects, rest, "-o", folder / library.soname, *link)


def _driver_symbols(toolkit: Toolkit) -> set[str]:
    """Return what the driver's header declares, since the driver itself is not among torch's packages."""
    include = [f"-I{path}" for path in (_SOURCES / "include", *toolkit.includes)]
    text = run_compiler(*toolkit.compiler, "-E", *include, "-include", "cuda.h", "-x", "c", os.devnull)
    return set(re.findall(r"\b(cu[A-Z]\w*)\(", text))


def _plain_names(names: set[str]) -> list[str]:
    """Return assembly lines for the plain names: a driver exports cuMemAlloc beside the header's cuMemAlloc_v2."""
    plain = sorted(name.removesuffix("_v2") for name in names if name.endswith("_v2"))
    return [
        f'__asm__(".text\\n.globl {name}\\n.type {name},@function\\n{name}: jmp {name}_v2@PLT");'
        for name in plain
        if name not in names
    ]


def _symbols(toolkit: Toolkit, path: Path, *options: str) -> set[str]:
    """Return the functions that an object file or a library defines."""
    lines = run_compiler(toolkit.symbols, "--defined-only", *options, path).splitlines()
    fields = [line.split() for line in lines]
    return {words[2].partition("@")[0] for words in fields if len(words) == 3 and words[1] == "T"}


def _require_loadable(paths: Iterable[Path]) -> None:
    """Raise EmulationError if the system's loader refuses the libraries."""
    environ = {**os.environ, "LC_ALL": "C", "LD_PRELOAD": ":".join(map(str, paths))}
    done = subprocess.run(["/bin/sh", "-c", ":"], capture_output=True, text=True, check=False, env=environ)
    said = next((line for line in done.stderr.splitlines() if "cannot be preloaded" in line), "")
    if said:
        why = said.rpartition("cannot be preloaded")[2].strip(" ():.").removesuffix("ignored").strip(" ():.")
        raise EmulationError(
            f"the emulated device cannot be loaded from the cache folder ({why}): set XDG_CACHE_HOME to a folder on a "
            f"file system that is not mounted with noexec"
        )
