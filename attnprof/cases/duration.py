"""Rough guesses of how long cases take, for progress and for a warning before hours are spent. Needs no torch."""

from __future__ import annotations

import math

from attnprof.cases.case import Case
from attnprof.cases.workload import ModelWorkload

# A step's share of the matrix-product rate: the plain form gets less, because of its memory traffic, and the fused
# forms get more. results/durations.md compares the guesses of this file with real durations.
_SHARE_OF_RATE = 0.3
_BEFORE_SECONDS = 0.15  # for the module, its tensors and the processes

# On an emulated card a launch takes the time of the calls around it.
_EMULATED_SECONDS = 0.05
_TILE_ELEMENTS = 2**23  # the least scores in a tile on CUDA; on large maps twice the query (`attnprof.attention.tiles`)
_TILED = {"chunked": (4e-5, 1.2e-4), "online": (6e-5, 1.5e-4)}  # seconds of two steps for each tile: forward, training
_WALKED = 4  # an estimated latency walks through the launches, which takes so many times two steps
_EMULATED_MODEL_SECONDS = 1.0


def estimated_seconds(case: Case, flops_per_second: float, seconds_per_case: float | None) -> float:
    """Return a guess of a measured case's time: two steps for memory, one for exactness, the rest for latency.

    Args:
        case: the case.
        flops_per_second: the device's rate of matrix products.
        seconds_per_case: the time for latency; None if only memory is measured.
    """
    step = case.workload.flops / (_SHARE_OF_RATE * flops_per_second)
    if seconds_per_case is None:
        return _BEFORE_SECONDS + 2 * step
    return _BEFORE_SECONDS + 3 * step + max(seconds_per_case, 4 * step)


def emulated_seconds(case: Case, *, with_latency: bool = False) -> float:
    """Return a guess of an emulated case's time, which goes with the number of its launches.

    Args:
        case: the case.
        with_latency: whether the latency is estimated as well.
    """
    if isinstance(case.workload, ModelWorkload):
        return _EMULATED_MODEL_SECONDS
    name = case.parsed.attention.component.name
    if name not in _TILED:
        return _EMULATED_SECONDS
    seconds = _TILED[name][case.workload.mode == "train"] * (1 + _WALKED * with_latency)
    halves = 2 if case.workload.dtype in ("fp16", "bf16") or case.parsed.precision_name in ("fp16", "bf16") else 1
    return _EMULATED_SECONDS + seconds * halves * _tile_count(case)


def _tile_count(case: Case) -> int:
    """Return the number of tiles of an N x M matrix of scores, for all images."""
    workload, strategy = case.workload, case.parsed
    queries = keys = workload.positions
    if strategy.keys is not None:
        keys = max(1, keys // (strategy.keys.sizes or strategy.keys.component.defaults)[0] ** 2)
    sizes = strategy.attention.sizes
    if not sizes:
        query_elements = workload.batch * max(1, workload.channels // workload.reduction) * queries
        return math.ceil(workload.batch * queries * keys / max(_TILE_ELEMENTS, 2 * query_elements))
    columns = sizes[1] if len(sizes) > 1 else keys
    return workload.batch * math.ceil(queries / sizes[0]) * math.ceil(keys / min(columns, keys))
