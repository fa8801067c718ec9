"""A guard for backward passes that cannot be differentiated again: they raise an error and are never silently wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Make the backward of an autograd function refuse `create_graph=True`.

    torch's own `once_differentiable` is silent if the incoming gradient is a constant, as it is for a gradient penalty
    behind the last layer: the second derivatives would be zero.

    Args:
        backward: the static method of a `torch.autograd.Function`.

    Returns:
        A backward that raises RuntimeError if its own gradient is asked for.
    """

    @functools.wraps(backward)
    def guarded(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "this attention strategy has no double backward (create_graph=True): use strategy='naive' or 'sdpa' "
                "if gradients are differentiated again, as for a gradient penalty"
            )
        return backward(ctx, *grads)

    return guarded
