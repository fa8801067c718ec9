"""Single operations of which threads on GitHub contain memory on a card: `operations.py NAME`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

GIB = 2**30
Figures = dict[str, Any]


def failed(run: Callable[[], Any]) -> Figures:
    """Return what the message of an out-of-memory error says; nothing if there is none."""
    try:
        run()
    except torch.cuda.OutOfMemoryError as error:
        asked = re.search(r"Tried to allocate ([\d.]+) GiB", str(error))
        allocated = re.search(r"([\d.]+) GiB is allocated by PyTorch", str(error))
        found = {"out of memory: tried to allocate GiB": asked, "out of memory: allocated GiB": allocated}
        return {name: match[1] for name, match in found.items() if match}
    return {}


@torch.no_grad()
def volume(length: int) -> Figures:
    """Run a convolution of a half-precision volume of more than 4 GB."""
    x = torch.rand(1, 64, length, 370, 251).half().to("cuda")
    layer = nn.Conv3d(64, 32, 3, padding=1).half().to("cuda")
    figures = failed(lambda: layer(x))
    figures["peak allocated GB"] = torch.cuda.max_memory_allocated() / 1e9
    figures["peak reserved GB"] = torch.cuda.max_memory_reserved() / 1e9
    return figures


def deterministic_volume(depth: int) -> Figures:
    """Run a convolution of a deep float32 volume."""
    torch.backends.cudnn.deterministic = True
    layer = nn.Conv3d(256, 64, (3, 3, 3)).to("cuda")
    x = torch.empty(1, 256, depth, 1090, 1922).to("cuda")
    return {"allocated GiB": torch.cuda.memory_allocated() / GIB, **failed(lambda: layer(x))}


@torch.no_grad()
def autocast_volume() -> Figures:
    """Run a convolution of a cube under autocast."""
    x = torch.zeros(1, 128, 256, 256, 256, dtype=torch.float16, device="cuda")
    layer = nn.Conv3d(128, 128, (3, 3, 3), padding=1).to("cuda")

    def run() -> None:
        with torch.autocast("cuda"):
            layer(x)

    return failed(run)


@torch.no_grad()
def wide_images() -> Figures:
    """Run a convolution of images of growing width, each in a fresh cache."""
    layer = nn.Conv2d(256, 256, 3, padding=1).half().to("cuda")
    figures: Figures = {}
    for width in range(1024, 2177, 128):
        x = torch.empty(1, 256, 2048, width, dtype=torch.float16, device="cuda")
        y = layer(x)  # the next one is made while this one lives
        figures[f"width {width}: reserved GiB"] = f"{torch.cuda.memory_reserved() / GIB:.2f}"
        del x
        torch.cuda.empty_cache()
    return figures | {"last": list(y.shape)}


def softmax() -> Figures:
    """Run a large softmax in bfloat16, forward and backward."""
    x = torch.rand([5120, 2, 384, 384], dtype=torch.bfloat16, device="cuda", requires_grad=True)
    figures: Figures = {"after allocation": torch.cuda.memory_allocated()}
    x = torch.nn.functional.softmax(x, dim=-1)
    loss = torch.mean(x)
    figures["after forward"] = torch.cuda.memory_allocated()
    loss.backward()
    return figures | {
        "after backward": torch.cuda.memory_allocated(),
        "peak allocated": torch.cuda.max_memory_allocated(),
    }


def expanded_product(autocast: bool) -> Figures:
    """Run a batched product with an expanded matrix."""
    base = torch.randn((41_292, 64)).to("cuda")
    output = None
    for _ in range(3):
        with torch.autocast("cuda", torch.float16, enabled=autocast):
            x = torch.randn((1024, 64), requires_grad=True, device="cuda")
            output = base.expand(1024, -1, -1).bmm(x.unsqueeze(-1))
            torch.cuda.empty_cache()
    del x
    return {"allocated": torch.cuda.memory_allocated(), "sizes": list(output.shape)}


OPERATIONS: dict[str, Callable[[], Figures]] = {
    "volume-361": lambda: volume(361),
    "volume-362": lambda: volume(362),
    "deterministic-volume-4": lambda: deterministic_volume(4),
    "deterministic-volume-5": lambda: deterministic_volume(5),
    "autocast-volume": autocast_volume,
    "wide-images": wide_images,
    "softmax": softmax,
    "expanded-product-autocast": lambda: expanded_product(True),
    "expanded-product": lambda: expanded_product(False),
}

if __name__ == "__main__":
    print(json.dumps(OPERATIONS[sys.argv[1]]()))
