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
    """Have the model's repeated parts computed again in backward; returns what was done.

    By the model's own switch where it has one (transformers, timm); else each member with parts of its
    own of the outermost nn.Sequential and nn.ModuleList.

    Raises:
        UserModelError: there is nothing to checkpoint.
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
    """Whether it has parameters and parts of its own; a container of such has its members further in."""
    if isinstance(module, _CONTAINERS) and any(any(part.children()) for part in module.children()):
        return False
    return any(module.children()) and any(True for _ in module.parameters())


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
