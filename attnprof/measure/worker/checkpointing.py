"""Gradient checkpointing of a user's model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from attnprof.measure.worker.user_model import UserModelError

_CONTAINERS = (nn.Sequential, nn.ModuleList)


def checkpoint_members(model: nn.Module) -> list[str]:
    """Make the model compute its repeated parts again in backward.

    The model's own switch does it if there is one (transformers, timm). Otherwise the repeated parts are the
    members, with parts of their own, of the outermost nn.Sequential and nn.ModuleList.

    Returns:
        The switch that was called, or the paths of the members.

    Raises:
        UserModelError: the model has nothing to checkpoint.
    """
    for switch in ("gradient_checkpointing_enable", "set_grad_checkpointing"):
        if hasattr(model, switch):
            getattr(model, switch)()
            return [f"{switch}()"]
    members = dict(_members(model, ""))
    if not members:
        raise UserModelError(
            "checkpointing: the model has no nn.Sequential or nn.ModuleList of parts to checkpoint; leave it out"
        )
    for member in members.values():
        member.forward = partial(_checkpointed, member.forward)
    return list(members)


def _members(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        inner = f"{path}.{name}".lstrip(".")
        if isinstance(module, _CONTAINERS) and _is_part(child):
            yield inner, child
        else:
            yield from _members(child, inner)


def _is_part(module: nn.Module) -> bool:
    """Return whether a module has parameters and parts of its own and is not a container of such modules."""
    if isinstance(module, _CONTAINERS) and any(any(part.children()) for part in module.children()):
        return False
    return any(module.children()) and any(True for _ in module.parameters())


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
