"""A step of an attention block as a program would run it."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from attnprof.attention.blocks.base import AttentionBlock
from attnprof.attention.blocks.catalogue import block_form
from attnprof.attention.strategy import Strategy
from attnprof.cases.case import Case
from attnprof.cases.measurement import Source
from attnprof.cases.workload import Workload
from attnprof.measure.worker.devices.base import DTYPES, Device


class BlockStep:
    """A block and its tensors as a user's program holds them; calling it runs one step.

    The attention term's weight is 1, so that its errors show in the output.

    Args:
        case: a block's workload and its strategy.
        device: where the tensors are.
        seed: random seed for weights and input.

    Attributes:
        train: whether the step contains backward.
        block: the module.
        x: its input (B, C, H, W).
        slope: the gradient of the output, of the same shape; None in forward.
    """

    def __init__(self, case: Case, device: Device, seed: int) -> None:
        w = case.workload
        self.train = w.mode == "train"
        torch.manual_seed(seed)
        # Weights come from the host's generator, the same for every device. An emulated card has no values, so
        # they are made on it directly: it may hold what this host cannot.
        with torch.device(device.name) if device.source is Source.EMULATED else nullcontext():
            self.block = unit_block(w, case.parsed).train(self.train)
        self.block.to(device.name, None if case.parsed.precision_name else DTYPES[w.dtype])
        dtype = next(self.block.parameters()).dtype
        self.x = draw_input(case, device, seed).to(dtype).requires_grad_(self.train)
        self.slope = torch.randn_like(self.x, requires_grad=False) if self.train else None

    def tensors(self) -> list[Tensor]:
        """Return the tensors that are allocated before the step."""
        given = [self.x, self.slope] if self.slope is not None else [self.x]
        return [*self.block.parameters(), *self.block.buffers(), *given]

    def __call__(self) -> None:
        """Run the step."""
        if not self.train:
            with torch.no_grad():
                self.block(self.x)
            return
        self.block(self.x).backward(self.slope)
        self.x.grad = None
        self.block.zero_grad(set_to_none=True)


def unit_block(workload: Workload, strategy: Strategy) -> AttentionBlock:
    """Return the workload's block with weight 1 on its attention term, where a new block has 0."""
    block = block_form(workload.block).build(workload.channels, strategy, workload.reduction)
    with torch.no_grad():
        for weight in block.residual_weights():
            weight.fill_(1.0)
    return block


def draw_input(case: Case, device: Device, seed: int) -> Tensor:
    """Return the workload's input (B, C, H, W), standard normal, the same for every strategy."""
    w = case.workload
    generator = torch.Generator(device.name).manual_seed(seed)
    shape = (w.batch, w.channels, w.height, w.width)
    return torch.randn(shape, generator=generator, device=device.name, dtype=DTYPES[w.dtype])
