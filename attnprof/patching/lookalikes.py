"""Modules that look like attention but cannot be patched, and the reasons.

What is checked: torch's own and others' attention over tokens, a fused projection, volumes, convolutions that are not
1x1, scripted code, and attention over channels (found by running it).
"""

from __future__ import annotations

import re

import torch
from torch import nn

from attnprof.patching.observed_ops import OpObserver
from attnprof.patching.rehearsal import Rehearsal

_TOKENS = "attention over tokens, not a 2-D block: use torch's own scaled_dot_product_attention for it"
_VOLUMES = "its convolutions are 3-D: not a 2-D block"
# A child's name that contains the name of a role. The roles of one block are distinguished by their first letters.
_ROLE = re.compile(r"(^|_)(query|key|value|theta|phi|g|q|k|v)(conv\d*)?\d*($|_)")
_TRIPLES = ({"q", "k", "v"}, {"t", "p", "g"})
_FUSED = re.compile(r"(^|_)(to_)?qkv($|_|\d)")
_CHANNELS, _HEIGHT, _WIDTH = 8, 6, 5


def reason_to_leave(module: nn.Module) -> str:
    """Return why a module that is or may be attention is left alone; "" for a module that does not look like it.

    Args:
        module: one that `anatomy_of` finds no parts in, patched or not.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return (
            "it is scripted, so its code is fixed: patch the model before scripting it"
            if _scripted_softmax(module)
            else ""
        )
    if _attends_over_channels(module):
        return "channel attention, C x C: nothing of size N x N to save"
    return _reason_by_projections(module)


def is_sharded(module: nn.Module) -> bool:
    """Return whether a module holds only parts of its parameters, as FSDP does: no block in it can run by itself."""
    return any("FullyShardedDataParallel" in c.__name__ or c.__name__ == "FSDPModule" for c in type(module).__mro__)


def _reason_by_projections(module: nn.Module) -> str:
    kinds = {name: _kind(child) for name, child in module.named_children()}
    linears, volumes, convs = (
        [name for name, kind in kinds.items() if kind in of]
        for of in ({nn.Linear}, {nn.Conv3d}, {nn.Conv1d, nn.Conv2d})
    )
    fused = {kind for name, kind in kinds.items() if _FUSED.search(name)}
    if isinstance(module, nn.MultiheadAttention) or nn.Linear in fused or _names_all(linears):
        return _TOKENS
    if fused & {nn.Conv1d, nn.Conv2d}:
        return "query, key and value come from one convolution"
    if _names_all(volumes):
        return _VOLUMES
    if _names_all(convs):
        return f"its convolutions are not three or four 1x1 convolutions of one map: {', '.join(convs)}"
    return ""


def _kind(child: nn.Module) -> type[nn.Module]:
    """Return the type of the one layer in a child that projects; nn.Module if there is none or more than one."""
    layers = [m for m in child.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    if len(layers) != 1:
        return nn.Module
    return next(kind for kind in (nn.Linear, nn.Conv3d, nn.Conv1d, nn.Conv2d) if isinstance(layers[0], kind))


def _names_all(names: list[str]) -> bool:
    """Return whether the names include query, key and value, under any of their usual names."""
    found = {match[2][0] for name in names if (match := _ROLE.search(name.lower()))}
    return any(triple <= found for triple in _TRIPLES)


def _scripted_softmax(module: torch.jit.ScriptModule) -> bool:
    return "softmax" in str(module.inlined_graph) or "scaled_dot_product" in str(module.inlined_graph)


def _attends_over_channels(module: nn.Module) -> bool:
    """Return whether a module has one weight and takes a softmax over channels, as DANet's channel attention does."""
    parameters = list(module.parameters())
    if len(parameters) != 1 or parameters[0].shape.numel() != 1:
        return False
    if any(_attends_over_channels(child) for child in module.children()):
        return False
    ops = OpObserver(_HEIGHT * _WIDTH)
    try:
        with Rehearsal(module, {}) as rehearsal, ops:
            rehearsal.run(module.forward, rehearsal.map_of(1, _CHANNELS, _HEIGHT, _WIDTH))
    except Exception:  # the user's code may raise anything; it takes no such map
        return False
    return any(shape[-2:] == (_CHANNELS, _CHANNELS) for shape in ops.softmaxes)
