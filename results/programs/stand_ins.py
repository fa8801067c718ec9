"""Run a program with stand-ins for what is not on this machine: `python stand_ins.py SCRIPT ARGUMENT...`.

The program itself is unchanged. A download of Cora reads the data of make_data.py, and torchvision's random images are
few: `examples/imagenet --dummy` asks for 1,281,167 of them, which are hours.
"""

from __future__ import annotations

import io
import runpy
import sys
import tarfile
from pathlib import Path

_FAKE_IMAGES = 96


class _Cora:
    """An answer of `requests.get` that holds the random graph."""

    def __init__(self, folder: Path) -> None:
        self.raw = io.BytesIO()
        with tarfile.open(fileobj=self.raw, mode="w:gz") as archive:
            archive.add(folder, "cora")
        self.raw.seek(0)

    def __enter__(self) -> _Cora:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def _few_fake_images() -> None:
    from torchvision.datasets import FakeData

    make = FakeData.__init__

    def few(self: FakeData, size: int = 1000, *rest: object, **named: object) -> None:
        make(self, min(size, _FAKE_IMAGES), *rest, **named)

    FakeData.__init__ = few  # type: ignore[method-assign]


def _local_cora(folder: Path) -> None:
    import requests

    requests.get = lambda *_, **__: _Cora(folder)  # type: ignore[assignment]


def main() -> None:
    """Put the stand-ins in place and run the script as `__main__`."""
    script = Path(sys.argv[1])
    sys.argv = sys.argv[1:]
    sys.path[0] = str(script.resolve().parent)
    if "imagenet" in script.resolve().parts:
        _few_fake_images()
    if "gcn" in script.resolve().parts:
        _local_cora(script.resolve().parents[2] / "data" / "cora")
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
