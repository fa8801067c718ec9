"""The blocks as their papers define them, written out plainly and apart from the attention library.

Each is computed at some positions only: all of them at once would need an N x N matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Definition:
    """A block as a function of its weights and its input.

    Attributes:
        rows: returns the output (B, C, rows) at some positions, from parameters and buffers by name, the input
            x (B, C, H, W) and the positions (rows,).
        key_bias: the parameter whose gradient is zero, since softmax does not change when all scores of a
            row shift; "" if there is none.
    """

    rows: Callable[[Weights, Tensor, Tensor], Tensor]
    key_bias: str = ""


def _sagan(w: Weights, x: Tensor, rows: Tensor) -> Tensor:
    flat = x.flatten(2)  # (B, C, N)
    query = _conv(w, "query_conv", flat[:, :, rows])
    attended = _attended(query, _conv(w, "key_conv", flat), _conv(w, "value_conv", flat))
    return w["gamma"] * attended + flat[:, :, rows]


def _sagan_official(w: Weights, x: Tensor, rows: Tensor) -> Tensor:
    flat = x.flatten(2)
    query = _conv(w, "theta", flat[:, :, rows])
    key, value = (_pooled(_conv(w, name, flat), x) for name in ("phi", "g"))
    return w["gamma"] * _conv(w, "o", _attended(query, key, value)) + flat[:, :, rows]


def _danet(w: Weights, x: Tensor, rows: Tensor) -> Tensor:
    position = {name.removeprefix("position."): weight for name, weight in w.items()}
    flat = x.flatten(2)
    energy = flat @ flat.transpose(1, 2)  # (B, C, C)
    attention = F.softmax(energy.max(-1, keepdim=True).values - energy, dim=-1)
    channel = w["channel.gamma"] * (attention @ flat[:, :, rows]) + flat[:, :, rows]
    return _sagan(position, x, rows) + channel


def _nonlocal(w: Weights, x: Tensor, rows: Tensor) -> Tensor:
    flat = x.flatten(2)
    query = _conv(w, "theta", flat[:, :, rows])
    key, value = (_pooled(_conv(w, name, flat), x) for name in ("phi.0", "g.0"))
    out = _conv(w, "W.0", _attended(query, key, value))
    mean, variance, scale, shift = (w[f"W.1.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(out, mean, variance, scale, shift) + flat[:, :, rows]


DEFINITIONS = {
    "sagan": Definition(_sagan, "key_conv.bias"),
    "sagan-official": Definition(_sagan_official),
    "danet": Definition(_danet, "position.key_conv.bias"),
    "nonlocal": Definition(_nonlocal, "phi.0.bias"),
}


def _conv(w: Weights, name: str, positions: Tensor) -> Tensor:
    """Apply a 1x1 convolution, (B, C, n) -> (B, C', n)."""
    out = w[f"{name}.weight"].flatten(1) @ positions
    bias = w.get(f"{name}.bias")
    return out if bias is None else out + bias.unsqueeze(1)


def _pooled(maps: Tensor, x: Tensor) -> Tensor:
    """Return the largest of each 2x2 window, (B, C', N) -> (B, C', M); an odd last row or column is left out."""
    height, width = x.shape[2] // 2, x.shape[3] // 2
    maps = maps.view(*maps.shape[:2], *x.shape[2:])[:, :, : 2 * height, : 2 * width]
    windows = [maps[:, :, top::2, left::2] for top in (0, 1) for left in (0, 1)]
    return torch.stack(windows).amax(0).flatten(2)


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend with query (B, E, rows), key (B, E, M) and value (B, D, M) -> (B, D, rows)."""
    attention = F.softmax(query.transpose(1, 2) @ key, dim=-1)  # (B, rows, M)
    return value @ attention.transpose(1, 2)
