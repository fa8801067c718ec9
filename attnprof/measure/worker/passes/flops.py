"""The work of a step, and the rate at which this device computes matrix products."""

from __future__ import annotations

import torch
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from attnprof.attention.blocks.catalogue import block_form
from attnprof.cases.case import Case
from attnprof.measure.worker.devices.base import DTYPES, Device

# A product that takes this long, or has the largest side, is large enough to reach the device's rate.
_LARGE_SECONDS = 0.03
_MIN_SIDE, _MAX_SIDE = 256, 8192
_SECONDS = 0.4


def step_flops(case: Case) -> int:
    """Return the floating-point operations of a step of the plain definition, by torch's counter.

    They are counted on meta tensors, so at no cost. The definition counts and not the strategy, since recomputation
    and padding are no useful work. A strategy that computes another attention is its own definition.
    """
    w = case.workload
    training = w.mode == "train"
    block = block_form(w.block).build(w.channels, case.parsed.definition(), w.reduction).to("meta")
    x = torch.empty(w.batch, w.channels, w.height, w.width, device="meta", requires_grad=training)
    counter = FlopCounterMode(display=False)
    with counter, torch.set_grad_enabled(training):
        out = block(x)
        if training:
            out.backward(torch.empty_like(out))
    return int(counter.get_total_flops())


def matmul_flops_per_second(device: Device, dtype_name: str) -> float:
    """Return the rate of a large square matrix product, the fastest of several samples."""
    side = _MIN_SIDE
    while _product_timer(device, dtype_name, side).timeit(1).median < _LARGE_SECONDS and side < _MAX_SIDE:
        side *= 2
    measured = _product_timer(device, dtype_name, side).blocked_autorange(min_run_time=_SECONDS)
    return 2 * side**3 / min(measured.times)


def _product_timer(device: Device, dtype_name: str, side: int) -> Timer:
    a, b, out = torch.empty(3, side, side, device=device.name, dtype=DTYPES[dtype_name]).normal_()
    return Timer("torch.mm(a, b, out=out)", globals={"a": a, "b": b, "out": out}, num_threads=torch.get_num_threads())
