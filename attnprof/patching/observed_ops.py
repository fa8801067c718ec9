"""The operations of a forward, observed one by one."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class OpObserver(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A watch over a forward for the operations that reveal attention; active inside its `with`.

    Args:
        positions: the number of positions of the map, H * W.

    Attributes:
        softmaxes: the shapes of the tensors that a softmax was taken of; () for one inside a fused kernel.
        products: whether a matrix product had a result of positions x positions.
        dropout: whether anything was drawn at random.
    """

    def __init__(self, positions: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._positions = positions
        self.softmaxes: list[tuple[int, ...]] = []
        self.products = self.dropout = False

    @property
    def attends(self) -> bool:
        """Whether the forward looks like attention over positions, whatever it does with the scores."""
        return bool(self.softmaxes) or self.products

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note what it was."""
        found = func(*args, **(kwargs or {}))
        name = str(func)
        if "attention" in name:  # torch's fused kernels, and those of other packages
            self.softmaxes.append(())
        elif "softmax" in name:
            self.softmaxes.append(tuple(found.shape))
        elif "dropout" in name or "bernoulli" in name:
            self.dropout = True
        elif "mm" in name and isinstance(found, Tensor):
            self.products |= tuple(found.shape[-2:]) == (self._positions, self._positions)
        return found
