"""A decoder-only language model, whose steps were published as snapshots of PyTorch's allocator on real cards.

The same operations in the same order as the published model allocate the same blocks, if each result lives as long. So
the names of results matter here, and values do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model."""

    context: int
    channels: int
    layers: int
    heads: int
    hidden: int
    vocabulary: int = 10_000


class Linear(nn.Module):
    """A product with a weight, without a bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("...a,ba->...b", x, self.weight)


class Embedding(nn.Module):
    """A table of vectors."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(sizes.vocabulary, sizes.channels))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.weight[tokens, :]


class RMSNorm(nn.Module):
    """A division by the root mean square, in float32."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(sizes.channels))

    def forward(self, x: Tensor) -> Tensor:
        before, x = x.dtype, x.to(torch.float32)
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        x = x * scale
        return (self.weight * x).to(before)


class Rotary(nn.Module):
    """Rotations of pairs of channels by the position."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        pairs = sizes.channels // sizes.heads // 2
        self.register_buffer("turns", torch.empty(2, sizes.context, pairs), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.unflatten(-1, (-1, 2)).movedim(-1, 0).unbind(0)
        cos, sin = self.turns[:, : x.size(-2), :].unbind(0)
        turned_first = cos * first - sin * second
        turned_second = sin * first + cos * second
        return torch.concat((turned_first, turned_second), dim=-1)


def softmax(x: Tensor) -> Tensor:
    """Return the softmax over the last axis, in single operations."""
    scaled = x - torch.max(x, dim=-1, keepdim=True)[0]
    powers = torch.exp(scaled)
    return powers / torch.sum(powers, dim=-1, keepdim=True)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return attention with a mask of what a position sees, in single operations."""
    scores = torch.einsum("...ab,...cb->...ac", query, key) / math.sqrt(key.shape[-1])
    if mask is not None:
        scores = torch.where(mask, scores, float("-inf"))
    weights = softmax(scores)
    return torch.einsum("...ab,...bc->...ac", weights, value)


def silu(x: Tensor) -> Tensor:
    """Return x times its sigmoid."""
    return x * torch.sigmoid(x)


class Attention(nn.Module):
    """Causal attention of several heads."""

    def __init__(self, sizes: Sizes, rotary: Rotary) -> None:
        super().__init__()
        channels = sizes.channels
        self.query, self.key, self.value, self.out = (Linear(channels, channels) for _ in range(4))
        self.heads, self.rotary = sizes.heads, rotary

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.query(x), self.key(x), self.value(x)
        query, key, value = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (query, key, value))
        query = self.rotary(query)
        key = self.rotary(key)
        places = torch.arange(x.size(1), device=x.device)
        mask = (places[:, None] >= places[None, :])[None]
        attended = attend(query, key, value, mask)
        attended = attended.transpose(1, 2).flatten(2)
        return self.out(attended)


class FeedForward(nn.Module):
    """A gated layer (SwiGLU)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        channels, hidden = sizes.channels, sizes.hidden
        self.first, self.last, self.gate = Linear(channels, hidden), Linear(hidden, channels), Linear(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(silu(self.first(x)) * self.gate(x))


class Block(nn.Module):
    """A layer of the model."""

    def __init__(self, sizes: Sizes, rotary: Rotary) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(sizes, rotary), FeedForward(sizes)
        self.before_attention, self.before_feed_forward = RMSNorm(sizes), RMSNorm(sizes)

    def forward(self, x: Tensor) -> Tensor:
        attended = self.attention(self.before_attention(x))
        between = x + attended
        fed = self.feed_forward(self.before_feed_forward(between))
        return between + fed


class Model(nn.Module):
    """The language model."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embedding = Embedding(sizes)
        self.rotary = Rotary(sizes)
        self.layers = nn.ModuleList(Block(sizes, self.rotary) for _ in range(sizes.layers))
        self.norm, self.head = RMSNorm(sizes), Linear(sizes.channels, sizes.vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.embedding(tokens)  # lives as long as this call
        x = embedded
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        logits = self.head(x)
        return logits


def log_softmax(x: Tensor) -> Tensor:
    """Return the logarithm of the softmax over the last axis, in single operations."""
    highest = torch.max(x, dim=-1, keepdim=True)[0]
    x = x - highest
    return x - torch.log(torch.sum(torch.exp(x), dim=-1, keepdim=True))


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss, in single operations."""
    losses = -log_softmax(logits)
    return torch.mean(torch.gather(losses, -1, targets.unsqueeze(-1)))
