"""How much a step computes, and how fast this device could compute it."""

from __future__ import annotations

import torch
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from attnprof.attention.block import SelfAttention2d
from attnprof.measure.device import Device
from attnprof.plan import Case

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp64": torch.float64}

_SIDES = {"cpu": 2048, "cuda": 8192}  # products large enough to reach the device's rate
_SECONDS = 0.4


def step_flops(case: Case) -> int:
    """Floating-point operations of a step of the plain definition, by torch's counter.

    Counted on meta tensors, so at no cost. The definition and not the strategy: recomputation and
    padding are no useful work.
    """
    w = case.workload
    training = w.mode == "train"
    block = SelfAttention2d(w.channels, case.parsed.definition(), reduction=w.reduction).to("meta")
    x = torch.empty(w.batch, w.channels, w.height, w.width, device="meta", requires_grad=training)
    counter = FlopCounterMode(display=False)
    with counter, torch.set_grad_enabled(training):
        out = block(x)
        if training:
            out.backward(torch.empty_like(out))
    return int(counter.get_total_flops())


def matmul_flops_per_second(device: Device, dtype_name: str) -> float:
    """The rate of a large square matrix product, the fastest of several samples."""
    kind = device.name.partition(":")[0]
    side = _SIDES[kind]
    generator = torch.Generator(device.name).manual_seed(0)
    a, b = (torch.randn(side, side, device=device.name, generator=generator).to(DTYPES[dtype_name]) for _ in "ab")
    out = torch.empty_like(a)
    timer = Timer("torch.mm(a, b, out=out)", globals={"a": a, "b": b, "out": out}, num_threads=torch.get_num_threads())
    measured = timer.blocked_autorange(min_run_time=_SECONDS)
    return 2 * side**3 / min(measured.times)
