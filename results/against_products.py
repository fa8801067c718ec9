"""How near each exact strategy comes to the time of the block's matrix products alone.

    python results/against_products.py 4 128 64 64 train

Every candidate runs in turn, round after round in one process, so that all see the same machine; the
median of the rounds counts. `products` are the products of the plain form and nothing else: no
softmax, no projections, their results allocated as the plain form allocates them.
"""

import argparse
import platform
import statistics
import time

import torch

from attnprof import SelfAttention2d, __version__
from attnprof.attention import COMPONENTS


def products(query, key, value, slope, *, train):
    scores = torch.bmm(query.transpose(1, 2), key)
    torch.bmm(value, scores.transpose(1, 2))
    if train:
        grad = torch.bmm(slope.transpose(1, 2), value)
        torch.bmm(slope, scores)
        torch.bmm(grad, key.transpose(1, 2))
        torch.bmm(grad.transpose(1, 2), query.transpose(1, 2))


def step(block, x, slope, *, train):
    if not train:
        with torch.no_grad():
            block(x)
        return
    block(x).backward(slope)
    x.grad = None
    block.zero_grad(set_to_none=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shape", type=int, nargs=4, metavar=("B", "C", "H", "W"))
    parser.add_argument("mode", choices=["forward", "train"])
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    batch, channels, height, width = arguments.shape
    train = arguments.mode == "train"
    torch.manual_seed(0)
    x = torch.randn(arguments.shape, requires_grad=train)
    slope = torch.randn(arguments.shape)
    query, key = torch.randn(2, batch, channels // 8, height * width)
    value, flat_slope = torch.randn(2, batch, channels, height * width)
    candidates = {"products": lambda: products(query, key, value, flat_slope, train=train)}
    for component in COMPONENTS:
        if component.kind == "attention":
            block = SelfAttention2d(channels, component.name)
            candidates[component.name] = lambda block=block: step(block, x, slope, train=train)
    seconds = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    for _ in range(arguments.rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    versions = f"attnprof {__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    print(f"{arguments.shape} {arguments.mode}, {arguments.rounds} rounds, {versions}, {platform.machine()}")
    median = {name: statistics.median(samples) for name, samples in seconds.items()}
    print(
        "| candidate | median ms | quartiles ms | naive / it | sdpa / it | it / products |\n|---|---|---|---|---|---|"
    )
    for name, samples in seconds.items():
        lower, _, upper = statistics.quantiles(samples, n=4, method="inclusive")
        print(f"| {name} | {median[name] * 1e3:.1f} | {lower * 1e3:.1f} to {upper * 1e3:.1f} | "
              f"{median['naive'] / median[name]:.2f} | {median['sdpa'] / median[name]:.2f} | "
              f"{median[name] / median['products']:.2f} |")  # fmt: skip


main()
