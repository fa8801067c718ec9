"""Modules that look like attention and are known to be no block that could be patched."""

from __future__ import annotations

import re

import torch
from torch import nn

from attnprof.patching.rehearsal import Rehearsal
from attnprof.patching.seen import Seen

_TOKENS = "attention over tokens, not a 2-D block: torch's own scaled_dot_product_attention serves it"
_ROLES = ("query", "key", "value")
_ROLE = re.compile(r"(^|_)(query|key|value|q|k|v)(\d*)($|_)")
_FUSED = re.compile(r"(^|_)(to_)?qkv($|_|\d)|in_proj")
_CHANNELS, _HEIGHT, _WIDTH = 8, 6, 5


def reason_to_leave(module: nn.Module) -> str:
    """Why a module that is attention, or may be, is none of ours; "" for one that is not like it."""
    if isinstance(module, torch.jit.ScriptModule):
        return "scripted, its code is fixed: patch the model before scripting it" if _scripted_softmax(module) else ""
    if _attends_over_channels(module):
        return "channel attention, C x C: nothing of size N x N to save"
    return _of_other_projections(module)


def sharded(module: nn.Module) -> bool:
    """Whether it holds parts of parameters only, as FSDP does: no block under it can run by itself."""
    return any("FullyShardedDataParallel" in c.__name__ or c.__name__ == "FSDPModule" for c in type(module).__mro__)


def _of_other_projections(module: nn.Module) -> str:
    kinds = {name: _kind(child) for name, child in module.named_children()}
    linears, convs = ([name for name, kind in kinds.items() if kind is of] for of in (nn.Linear, nn.Conv2d))
    fused = {kind for name, kind in kinds.items() if _FUSED.search(name)}
    if isinstance(module, nn.MultiheadAttention) or nn.Linear in fused or _roles(linears) == len(_ROLES):
        return _TOKENS
    if nn.Conv2d in fused:
        return "query, key and value come from one convolution"
    if _roles(convs) == len(_ROLES):
        return f"its convolutions are not 1x1 ones of one map, or not 3 or 4: {', '.join(convs)}"
    return ""


def _kind(child: nn.Module) -> type[nn.Module]:
    found = {type_ for m in child.modules() for type_ in (nn.Linear, nn.Conv1d, nn.Conv2d) if isinstance(m, type_)}
    if found & {nn.Conv1d, nn.Conv2d}:
        return nn.Conv2d
    return nn.Linear if found else nn.Module


def _roles(names: list[str]) -> int:
    """How many of query, key and value are among the names."""
    return len({found[2][0] for name in names if (found := _ROLE.search(name.lower()))})


def _scripted_softmax(module: torch.jit.ScriptModule) -> bool:
    return "softmax" in str(module.inlined_graph) or "scaled_dot_product" in str(module.inlined_graph)


def _attends_over_channels(module: nn.Module) -> bool:
    """Nothing but a weight, as DANet's and CBAM's relatives have it, and a softmax over channels."""
    parameters = list(module.parameters())
    if len(parameters) != 1 or parameters[0].shape.numel() != 1:
        return False
    if any(_attends_over_channels(child) for child in module.children()):
        return False
    with Rehearsal(module, {}) as rehearsal:
        seen = Seen(_HEIGHT * _WIDTH)
        try:
            with seen:
                rehearsal.run(module.forward, rehearsal.map_of(1, _CHANNELS, _HEIGHT, _WIDTH))
        except Exception:  # the user's code may raise anything; it takes no such map
            return False
    return any(shape[-2:] == (_CHANNELS, _CHANNELS) for shape in seen.softmaxes)
