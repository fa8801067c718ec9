"""Workloads: an attention block or a user's model, with its input, whatever computes it. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from attnprof.attention.blocks.catalogue import block_form
from attnprof.cases.decoding import Size

MODES = ("forward", "train")
DTYPES = ("fp32", "fp16", "bf16", "fp64")
OPTIMIZERS = ("sgd", "sgd-momentum", "adam", "adamw")
LARGEST_TENSOR = 2**60 - 1  # elements of 8 bytes: PyTorch counts the bytes of a tensor in a signed 64-bit integer


@dataclass(frozen=True)
class Workload:
    """The input of a block and what is done with it: everything in a case but the strategy.

    Attributes:
        batch, channels, height, width: the input is (B, C, H, W).
        dtype: `fp32`, `fp16`, `bf16` or `fp64`.
        mode: `forward` (no gradients) or `train` (forward, and backward to input and parameters).
        reduction: C / (channels of query and key).
        block: its name in `attnprof.attention.blocks.catalogue`.
    """

    batch: Size
    channels: Size
    height: Size
    width: Size
    dtype: str = "fp32"
    mode: str = "forward"
    reduction: Size = 8
    block: str = "sagan"

    @property
    def positions(self) -> int:
        """N = H * W."""
        return self.height * self.width

    @property
    def is_representable(self) -> bool:
        """Whether PyTorch can describe the block's input and weights, on a device of whatever memory."""
        return max(self.batch * self.channels * self.positions, self.channels**2) <= LARGEST_TENSOR

    @property
    def flops(self) -> int:
        """The floating-point operations of the plain block's matrix products.

        They are for planning; measured cases use torch's counter. Backward of a product is two of the same size.
        """
        forward = block_form(self.block).forward_flops(
            self.batch, self.channels, self.height, self.width, self.reduction
        )
        return forward * 3 if self.mode == "train" else forward

    def is_within(self, other: Workload) -> bool:
        """Return whether `other` is the same but larger, in one dimension at least and smaller in none."""
        same_size = replace(self, batch=other.batch, channels=other.channels, height=other.height, width=other.width)
        return (
            same_size == other
            and self.batch <= other.batch
            and self.channels <= other.channels
            and self.positions <= other.positions
            and self != other
        )

    @property
    def kind(self) -> str:
        """Everything but the size, as text: `fp32 train`, after the block's name if it is not `sagan`."""
        return " ".join([*([self.block] if self.block != Workload.block else []), self.dtype, self.mode])

    def __str__(self) -> str:
        return f"{self.batch}x{self.channels}x{self.height}x{self.width} {self.kind}"


@dataclass(frozen=True)
class ModelWorkload(Workload):
    """A user's model and its inputs in place of a block. Channels, height and width mean nothing here.

    Attributes:
        target: `PATH.py:NAME` or `package.module:NAME`, a module or a callable that returns one.
        inputs: the shape of each input without the batch, and its kind if not floating, joined by `+`:
            `3x256x256`, `4x64x64+:long`.
        digest: a hash of the file, so that results of another version of it are not taken for this one's.
        optimizer: one of `OPTIMIZERS`; "" in forward.
        amp, checkpointing, channels_last: whether each is on.
    """

    target: str = ""
    inputs: str = ""
    digest: str = ""
    optimizer: str = ""
    amp: bool = False
    checkpointing: bool = False
    channels_last: bool = False

    @property
    def flops(self) -> int:
        """Zero: the work of a model is not known before it runs."""
        return 0

    @property
    def kind(self) -> str:
        """Everything but the target and the inputs, as text: `fp32 train adam amp`."""
        flags = [name for name in ("amp", "checkpointing", "channels_last") if getattr(self, name)]
        return " ".join([self.dtype, self.mode, *([self.optimizer] if self.optimizer else []), *flags])

    def input_shapes(self) -> list[tuple[tuple[int, ...], str]]:
        """Return for each input its shape, batch included, and its kind: `float` or `long`."""
        found = []
        for one in self.inputs.split("+"):
            dims, _, kind = one.partition(":")
            found.append(((self.batch, *(int(dim) for dim in dims.split("x") if dim)), kind or "float"))
        return found

    def __str__(self) -> str:
        sizes = " ".join("x".join(map(str, shape)) for shape, _ in self.input_shapes())
        return f"{self.target} {sizes} {self.kind}"
