"""Finding the tensors in the arguments and results of an operation."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves


def tensors_in(values: Any) -> list[Tensor]:
    """Return the tensors in lists, tuples and dictionaries, however deep, in order.

    `torch.utils._pytree` is private, but torch's own flop counter relies on it and it has been stable.
    """
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
