"""A process of data-parallel training, with a sharded optimizer or a plain one: `sharded_optimizer.py MODE RANK`.

Gradients and parameters are exchanged in place, which allocates nothing, so this process works alone.
"""

from __future__ import annotations

import json
import sys

import torch
from language_model import Model, Sizes, cross_entropy
from torch import Tensor, nn

GIB = 2**30
BATCH, RANKS = 2, 2
figures: dict[str, float] = {}


def note(phase: str) -> None:
    """Note allocated memory and the peak since the last note."""
    figures[f"{phase}: allocated GiB"] = round(torch.cuda.memory_allocated() / GIB, 3)
    figures[f"{phase}: peak GiB"] = round(torch.cuda.max_memory_allocated() / GIB, 3)
    torch.cuda.reset_peak_memory_stats()


@torch.no_grad()
def shard(parameters: list[nn.Parameter], rank: int) -> list[tuple[Tensor, nn.Parameter, slice]]:
    """Move parameters into one buffer, and return the parts of which this rank keeps the optimizer's state."""
    total = sum(parameter.numel() for parameter in parameters)
    buffer = torch.empty(total, device="cuda")
    begin, end = rank * (total // RANKS), (rank + 1) * (total // RANKS)
    offset, parts = 0, []
    for parameter in parameters:
        after = offset + parameter.numel()
        buffer[offset:after].copy_(parameter.data.view(-1))
        parameter.set_(buffer[offset:after].view_as(parameter))
        first, last = max(offset, begin), min(after, end)
        if first < last:
            parts.append((buffer[first:last], parameter, slice(first - offset, last - offset)))
        offset = after
    return parts


def train(mode: str, rank: int) -> None:
    """Run the first step and note memory before and after the optimizer's."""
    model = Model(Sizes(512, channels=2560, layers=32, heads=32, hidden=10_240)).to("cuda")
    note("after the model")
    parameters = list(model.parameters())
    parts = shard(parameters, rank) if mode == "sharded" else []
    kept = [part for part, _, _ in parts] or parameters
    optimizer = torch.optim.AdamW(kept, lr=1e-3, foreach=False)
    inputs, targets = (torch.randint(10_000, (BATCH, 512), device="cuda") for _ in range(2))
    with torch.autocast("cuda", torch.bfloat16):
        loss = cross_entropy(model(inputs), targets)
    loss.backward()
    note("before the optimizer")
    for part, parameter, where in parts:
        part.grad = parameter.grad.view(-1)[where]
    optimizer.step()
    note("after the optimizer")


if __name__ == "__main__":
    train(sys.argv[1], int(sys.argv[2]))
    print(json.dumps(figures))
