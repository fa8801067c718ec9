"""The CUDA libraries and headers of the installed torch, from which a card can be emulated. Imports no torch."""

from __future__ import annotations

import os
import platform
import runpy
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attnprof.errors import AttnprofError
from attnprof.import_path import find_module

_HEADERS = ("cuda.h", "cuda_runtime_api.h", "cublas_v2.h", "cudnn.h")
_ANOTHER_WAY = "measure on a CUDA card or on the CPU instead (--device)"


class EmulationError(AttnprofError):
    """A card cannot be emulated here; the message contains the reason and what to do."""

    exit_code = 1


@dataclass(frozen=True)
class Toolkit:
    """The libraries to replace, and the tools to compile their replacements.

    Attributes:
        torch: the version of torch, as `2.14.1+cu130`.
        torch_folder: the folder of its package.
        cuda: the version of CUDA, as `13.0`.
        libraries: paths of cudart, cublas, cublasLt and cudnn as torch brings them.
        cudnn_graph: the path of the part of cuDNN that makes execution plans.
        includes: folders of headers.
        compiler: the command of the system's C compiler, word by word.
        symbols: the command that lists symbols, `nm`.
    """

    torch: str
    torch_folder: Path
    cuda: str
    libraries: dict[str, Path]
    cudnn_graph: Path
    includes: tuple[Path, ...]
    compiler: tuple[str, ...]
    symbols: str


def find_toolkit() -> Toolkit:
    """Examine this machine and the torch that the measuring process imports, without importing it.

    Raises:
        EmulationError: something is missing; the message contains what to do about it.
    """
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise EmulationError(f"--gpu emulates a card on Linux x86-64 only, this is {system} {machine}: {_ANOTHER_WAY}")
    spec = find_module("torch")
    if spec is None or spec.origin is None:
        raise EmulationError("--gpu needs torch, which is not installed: pip install torch")
    versions = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    torch, cuda = versions["__version__"], versions.get("cuda")
    if not cuda:
        raise EmulationError(
            f"--gpu runs the CUDA build of torch, and torch {torch} is built for the CPU only: install a build for "
            f"CUDA (pytorch.org/get-started), or {_ANOTHER_WAY}"
        )
    folders = list(_nvidia_folders())
    major = cuda.partition(".")[0]
    names = {
        "cudart": f"libcudart.so.{major}",
        "cublas": f"libcublas.so.{major}",
        "cublasLt": f"libcublasLt.so.{major}",
        "cudnn": "libcudnn.so.9",
        "cudnn_graph": "libcudnn_graph.so.9",
    }
    found = {name: _first(folder / "lib" / file for folder in folders) for name, file in names.items()}
    headers = {name: _first(folder / "include" / name for folder in folders) for name in _HEADERS}
    missing = [names[name] for name, path in found.items() if path is None]
    missing += [name for name, path in headers.items() if path is None]
    if missing:
        raise EmulationError(
            f"--gpu needs the CUDA packages that pip installs beside torch {torch}, which lack {', '.join(missing)}: "
            f"install torch with pip, or {_ANOTHER_WAY}"
        )
    libraries = {name: path for name, path in found.items() if path is not None}
    return Toolkit(
        torch=torch,
        torch_folder=Path(spec.origin).parent,
        cuda=cuda,
        cudnn_graph=libraries.pop("cudnn_graph"),
        libraries=libraries,
        includes=tuple(dict.fromkeys(path.parent for path in headers.values() if path is not None)),
        compiler=_compiler(),
        symbols=_tool("nm"),
    )


def _nvidia_folders() -> Iterator[Path]:
    """Yield the folders of the CUDA packages: nvidia/cu13 for CUDA 13; nvidia/cuda_runtime and others for CUDA 12."""
    spec = find_module("nvidia")
    for location in (spec.submodule_search_locations if spec else None) or ():
        yield from sorted(path for path in Path(location).iterdir() if path.is_dir())


def _first(paths: Iterator[Path]) -> Path | None:
    return next((path for path in paths if path.exists()), None)


def _compiler() -> tuple[str, ...]:
    if os.environ.get("CC"):
        return tuple(shlex.split(os.environ["CC"]))
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return (name,)
    raise EmulationError("--gpu compiles small C libraries once and finds no C compiler: install gcc, or set CC")


def _tool(name: str) -> str:
    if not shutil.which(name):
        raise EmulationError(f"--gpu needs the command {name}, which comes with the C compiler: install binutils")
    return name
