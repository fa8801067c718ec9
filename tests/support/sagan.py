"""The well-known SAGAN block, written apart from attnprof: what users' checkpoints come from."""

import torch
from torch import nn


class SaganBlock(nn.Module):
    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels // reduction, 1)
        self.key_conv = nn.Conv2d(channels, channels // reduction, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x):
        b, c, height, width = x.size()
        query = self.query_conv(x).view(b, -1, height * width).permute(0, 2, 1)
        key = self.key_conv(x).view(b, -1, height * width)
        attention = self.softmax(torch.bmm(query, key))
        value = self.value_conv(x).view(b, -1, height * width)
        out = torch.bmm(value, attention.permute(0, 2, 1)).view(b, c, height, width)
        return self.gamma * out + x, attention


def pooled_definition(block, x, factor):
    """One query position at a time, windows by hand: slow, and plainly what `pooled` means."""
    height, width = x.shape[2:]
    key, value = block.key_conv(x), block.value_conv(x)
    windows = [
        (slice(top, top + factor), slice(left, left + factor))
        for top in range(0, height, factor)
        for left in range(0, width, factor)
    ]
    keys = torch.stack([key[:, :, rows, columns].amax((2, 3)) for rows, columns in windows], -1)
    values = torch.stack([value[:, :, rows, columns].amax((2, 3)) for rows, columns in windows], -1)
    query = block.query_conv(x)
    out = torch.zeros_like(x)
    for i in range(height):
        for j in range(width):
            weights = torch.softmax(torch.einsum("be,bem->bm", query[:, :, i, j], keys), -1)
            out[:, :, i, j] = torch.einsum("bm,bcm->bc", weights, values)
    return block.gamma * out + x
