"""A step of the language model, recorded as published snapshots were: `snapshots.py CONTEXT training|inference DTYPE`.

`driver` as a fourth word reserves what the real driver kept to itself among PyTorch's memory, where the snapshots of
contexts 128 and 256 show gaps. With it, these two are equal in every figure, so it explains what differs without.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import torch
from language_model import Linear, Model, Sizes, cross_entropy
from torch import Tensor, nn

BATCH, WARM_UPS = 4, 5
MIB = 2**20


class AdamW(torch.optim.Optimizer):
    """AdamW in single operations, which makes its state anew in every step."""

    def __init__(self, parameters: Iterator[nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 1e-3})

    def step(self, closure: None = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            gradient, state = parameter.grad.data, self.state[parameter]
            parameter.data -= 1e-5 * parameter.data
            before_m = state.get("m", torch.zeros_like(gradient))
            before_v = state.get("v", torch.zeros_like(gradient))
            m = 0.9 * before_m + (0.1 * gradient)
            v = 0.999 * before_v + (0.001 * torch.square(gradient))
            parameter.data -= 1e-3 * m / (torch.sqrt(v) + 1e-8)
            state["m"] = m
            state["v"] = v


class DriversOwn:
    """The driver's own memory: below the parameters, behind them, and from the first layer's third product on."""

    def __init__(self) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._reserve(68)
        self._hole, self._below = self._reserve(20), self._reserve(168)
        self._products = 0

    def _reserve(self, mib: int) -> int:
        address = ctypes.c_uint64()
        nothing = ctypes.c_uint64(0)
        size = ctypes.c_size_t(mib * MIB)
        assert self._driver.cuMemAddressReserve(ctypes.byref(address), size, nothing, nothing, nothing) == 0
        return address.value

    def _free(self, address: int) -> None:
        assert self._driver.cuMemAddressFree(ctypes.c_uint64(address), ctypes.c_size_t(0)) == 0

    def parameters_are_there(self) -> None:
        self._reserve(2)
        self._free(self._hole)
        nn.modules.module.register_module_forward_hook(self._after)

    def _after(self, module: nn.Module, _arguments: Any, _result: Any) -> None:
        self._products += isinstance(module, Linear)
        if self._products == 3 and self._below:
            self._reserve(240)
            self._free(self._below)
            self._below = 0


def tokens(steps: int, context: int) -> Tensor:
    """Return random tokens for some steps."""
    return torch.randint(low=0, high=10_000, size=(steps, BATCH, context), dtype=torch.long, device="cuda")


def begin() -> None:
    """Begin the recorded step."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.memory._record_memory_history(max_entries=1_000_000)


def recorded_step(context: int, training: bool, autocast: bool, own: DriversOwn | None = None) -> dict[str, Any]:
    """Run warm-up steps, and one of which the allocator keeps the history; return the allocator's snapshot.

    Args:
        context: tokens of a sequence.
        training: whether gradients and the optimizer are part of a step.
        autocast: whether forward runs in bfloat16.
        own: memory that the driver takes in between.
    """
    model = Model(Sizes(context, channels=1024, layers=24, heads=16, hidden=4096)).to("cuda")
    if own:
        own.parameters_are_there()
    optimizer = AdamW(model.parameters())
    warm_inputs, inputs = tokens(WARM_UPS, context), tokens(1, context)
    half = torch.autocast("cuda", torch.bfloat16, enabled=autocast)
    if not training:
        model.eval()
        with torch.inference_mode():
            for each in warm_inputs:
                with half:
                    model(each)
            begin()
            with half:
                model(inputs[0])
        return torch.cuda.memory._snapshot()
    warm_targets, targets = tokens(WARM_UPS, context), tokens(1, context)
    for index in range(WARM_UPS):
        with half:
            output = model(warm_inputs[index])
            loss = cross_entropy(output, warm_targets[index])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    del output, loss
    begin()
    with half:
        output = model(inputs[0])
        loss = cross_entropy(output, targets[0])
    loss.backward()
    optimizer.step()
    return torch.cuda.memory._snapshot()


def figures_of(snapshot: dict[str, Any]) -> dict[str, int | str]:
    """Return what a snapshot says of its step: bytes, segments, and the order of allocations."""
    calls = [
        (call["action"], call["size"])
        for call in snapshot["device_traces"][0]
        if call["action"] in ("alloc", "free_requested")
    ]
    segments = snapshot["segments"]
    live = peak = sum(segment["allocated_size"] for segment in segments)
    for action, size in reversed(calls):
        live += -size if action == "alloc" else size
        peak = max(peak, live)
    sizes = sorted(segment["total_size"] for segment in segments)
    return {
        "allocated before the step": live,
        "peak allocated": peak,
        "reserved": sum(sizes),
        "segments": len(sizes),
        "sizes of segments": hashlib.sha256(json.dumps(sizes).encode()).hexdigest()[:12],
        "allocations": sum(action == "alloc" for action, _ in calls),
        "calls in order": hashlib.sha256(json.dumps(calls).encode()).hexdigest()[:12],
    }


if __name__ == "__main__":
    context, kind, dtype, *rest = sys.argv[1:]
    own = DriversOwn() if rest == ["driver"] else None
    print(json.dumps(figures_of(recorded_step(int(context), kind == "training", dtype == "bfloat16", own))))
