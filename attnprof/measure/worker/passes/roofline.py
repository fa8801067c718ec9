"""An estimate of a step's time on a card, from the operations that PyTorch runs for it.

The roofline model (Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785) of each operation: its
floating-point operations at the card's rate or its bytes at the card's bandwidth, whichever takes longer,
and no less than a launch. The shares of the data sheet's peaks that are reached in practice are assumed,
the same for every operation and card, so that ratios are worth more than seconds.

`torch.distributed._tools.RuntimeEstimator` has a roofline too. It is not used here because it takes the peaks of
the card that is present and runs on fake tensors; here the card is one of the catalogue, and the step is the one
whose memory was emulated.

Known limitations: the quality of a kernel (a fused kernel in fp32 reaches less of the peak than a large matrix
product), caches, clocks under load and overlap are not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from attnprof.cases.cards import Card
from attnprof.cases.measurement import Estimate
from attnprof.measure.worker.tensors import tensors_in

_PEAK_SHARE = 0.5  # of the peak FLOP/s
_BANDWIDTH_SHARE = (
    0.75  # of the bandwidth: device-to-device copies on a T4 show 239 of 320 GB/s, on an A100 1160 of 1555
)
_LAUNCH_SECONDS = 5e-6
_MAKES_NOTHING = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "detach", "resize_")
BASIS = (
    f"roofline at {_PEAK_SHARE:.0%} of the card's peak FLOP/s and {_BANDWIDTH_SHARE:.0%} of its bandwidth, not measured"
)


def estimated_step(step: Callable[[], None], card: Card) -> Estimate:
    """Run a step and add up the time that its operations would take on a card."""
    counter = _Roofline(card)
    with counter:
        step()
    return Estimate(counter.seconds, BASIS)


class _Roofline(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, card: Card) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds = 0.0
        self._card = card
        self._bytes_per_second = card.bandwidth_gb_s * 1e9 * _BANDWIDTH_SHARE

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        # An aten overload: torch.ops.aten.baddbmm_.default
        name = func.overloadpacket.__name__
        if not func.is_view and name not in _MAKES_NOTHING:
            written = tensors_in(out)
            read = tensors_in([*args, *(value for key, value in kwargs.items() if key != "out")])
            moved = sum(min(t.numel() * t.element_size(), t.untyped_storage().nbytes()) for t in read + written)
            compute = self._compute_seconds(name, args, kwargs, out, read)
            self.seconds += max(_LAUNCH_SECONDS, compute, moved / self._bytes_per_second)
        return out

    def _compute_seconds(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, read: list[Tensor]
    ) -> float:
        # The registry has products by the name of their plain form: baddbmm for baddbmm_.
        packet = getattr(torch.ops.aten, name.rstrip("_"), None)
        if packet not in flop_registry or not read:
            return 0.0
        flops = flop_registry[packet](*args, **kwargs, out_val=out)
        rate = self._card.flops_per_second(str(read[0].dtype).removeprefix("torch."))
        return float(flops) / (rate * _PEAK_SHARE)
