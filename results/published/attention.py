"""Attention in batches of eight, whose memory was published: `attention.py single_operations` or `fused_softmax`."""

from __future__ import annotations

import gc
import itertools
import json
import math
import sys

import torch
from language_model import attend
from torch import Tensor

LENGTHS, CHANNELS, BATCH = (256, 1024, 4096, 8192, 16_384), (16, 32, 64, 128), 8
MIB = 2**20
figures: dict[str, float | str] = {}


def release() -> None:
    """Give back what nothing refers to."""
    gc.collect()
    torch.cuda.empty_cache()


def with_single_operations() -> None:
    """Note memory after forward, for tensors that are made on the card."""
    for length, channels in itertools.product(LENGTHS, CHANNELS):
        query, key, value = (torch.randn(BATCH, length, channels, device="cuda", requires_grad=True) for _ in range(3))
        gradient = torch.randn_like(query)
        for _ in range(2):
            warm = attend(query, key, value)  # lives on, as in the published program
            warm.backward(gradient)
            query.grad = key.grad = value.grad = None
        release()
        output = attend(query, key, value)
        figures[f"{length} tokens, {channels} channels: MiB"] = round(torch.cuda.memory_allocated() / MIB, 3)
        del output, warm, query, key, value, gradient
        release()


def on_the_card(length: int, channels: int) -> list[Tensor]:
    """Return query, key and value; those on the host get the gradients."""
    return [torch.randn(BATCH, length, channels, requires_grad=True).cuda() for _ in range(3)]


def fused(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return attention with PyTorch's softmax."""
    scores = torch.matmul(query, key.transpose(-2, -1)) / math.sqrt(query.size(-1))
    weights = torch.softmax(scores, dim=-1)
    return torch.matmul(weights, value)


def with_fused_softmax() -> None:
    """Note memory before backward, of steps after which the last output stays."""
    for channels, length in itertools.product(CHANNELS, LENGTHS):
        name = f"{length} tokens, {channels} channels: bytes"
        try:
            query, key, value = on_the_card(length, channels)
            for _ in range(3):
                output = fused(query, key, value)
                figures[name] = torch.cuda.memory_allocated()
                output.sum().backward()
        except torch.cuda.OutOfMemoryError:
            figures[name] = "out of memory"


if __name__ == "__main__":
    {"single_operations": with_single_operations, "fused_softmax": with_fused_softmax}[sys.argv[1]]()
    print(json.dumps(figures))
