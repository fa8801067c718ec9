"""Backward passes that cannot be differentiated again, and say so."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For the backward of an autograd function: refuses `create_graph=True`.

    torch's `once_differentiable` is silent where the incoming gradient is a constant, as a gradient penalty's is
    behind the last layer: its second derivatives would be zero.
    """

    @functools.wraps(backward)
    def guarded(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "this attention strategy has no double backward (create_graph=True): use strategy='naive' or 'sdpa' "
                "where gradients are differentiated again, as for a gradient penalty"
            )
        return backward(ctx, *grads)

    return guarded
