"""Modules that have a block's parts, or its name, and compute something else."""

import torch
import torch.nn.functional as F
from torch import nn

from support.sagan import SaganBlock


class CamModule(nn.Module):
    """junfu1115/DANet: channel attention."""

    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x):
        b, c, h, w = x.size()
        flat = x.view(b, c, -1)
        energy = torch.bmm(flat, flat.permute(0, 2, 1))
        attention = self.softmax(torch.max(energy, -1, keepdim=True)[0].expand_as(energy) - energy)
        return self.gamma * torch.bmm(attention, flat).view(b, c, h, w) + x


class WrongAxis(SaganBlock):
    """Weights that sum to 1 over the queries: another function."""

    def forward(self, x):
        b, c, height, width = x.size()
        energy = torch.bmm(self.query_conv(x).flatten(2).mT, self.key_conv(x).flatten(2))
        out = torch.bmm(self.value_conv(x).flatten(2), torch.softmax(energy, 1).mT)
        return self.gamma * out.view(b, c, height, width) + x


class NearlyAttention(SaganBlock):
    """A small offset on the queries and keys: off by hundredths."""

    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("offset", 0.1 * torch.randn(1, channels, 6, 5, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return super().forward(x + self.offset)[0] - self.offset


class Windowed(SaganBlock):
    """Attends within halves of what is larger than 16 rows."""

    def forward(self, x):
        halves = x.chunk(2, 2) if x.shape[2] > 16 else (x,)
        return torch.cat([super(Windowed, self).forward(half)[0] for half in halves], 2)


class OneSize(SaganBlock):
    def forward(self, x):
        return super().forward(x)[0] + torch.zeros(6, 5)


class DotProduct(SaganBlock):
    """The names of a block, and scores divided by their number instead of a softmax."""

    def forward(self, x):
        q, k, v = (conv(x).flatten(2) for conv in (self.query_conv, self.key_conv, self.value_conv))
        return x + self.gamma * (v @ (q.mT @ k / k.shape[2]).mT).view(x.shape)


class Uniform(SaganBlock):
    """Queries of next to nothing: all positions attend to all alike, so any roles agree."""

    class Tiny(nn.Module):
        def forward(self, x):
            return 1e-9 * x

    def __init__(self, channels):
        super().__init__(channels)
        self.query_conv = nn.Sequential(self.query_conv, self.Tiny())


class Dropped(SaganBlock):
    """Dropout on its weights: in evaluation mode the same function."""

    def forward(self, x):
        energy = torch.bmm(self.query_conv(x).flatten(2).mT, self.key_conv(x).flatten(2))
        attention = F.dropout(torch.softmax(energy, -1), 0.5, self.training)
        return self.gamma * torch.bmm(self.value_conv(x).flatten(2), attention.mT).view(x.shape) + x


class Detached(SaganBlock):
    """No gradient through its keys."""

    def forward(self, x):
        energy = torch.bmm(self.query_conv(x).flatten(2).mT, self.key_conv(x).flatten(2).detach())
        out = torch.bmm(self.value_conv(x).flatten(2), torch.softmax(energy, -1).mT)
        return self.gamma * out.view(x.shape) + x


class Guided(SaganBlock):
    """Attends from one map to another."""

    def forward(self, x, guide):
        energy = torch.bmm(self.query_conv(x).flatten(2).mT, self.key_conv(guide).flatten(2))
        return x + self.gamma * torch.bmm(self.value_conv(x).flatten(2), torch.softmax(energy, -1).mT).view(x.shape)


class ManyHeads(SaganBlock):
    """Two heads."""

    def __init__(self, channels):
        super().__init__(channels, reduction=2)
        self.heads = 2

    def forward(self, x):
        q, k, v = (c(x).flatten(2).unflatten(1, (2, -1)) for c in (self.query_conv, self.key_conv, self.value_conv))
        return x + self.gamma * (v @ torch.softmax(q.mT @ k, -1).mT).reshape(x.shape)


class VolumeNonLocal(nn.Module):
    """Non-local in space and time."""

    def __init__(self, channels):
        super().__init__()
        self.theta, self.phi, self.g, self.W = (nn.Conv3d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        weights = torch.softmax(self.theta(x).flatten(2).mT @ self.phi(x).flatten(2), -1)
        return x + self.W((self.g(x).flatten(2) @ weights.mT).view(x.shape))


class ReturnsTerm(SaganBlock):
    def forward(self, x):
        out = super().forward(x)[0]
        return out, out - x


class ReturnsScores(SaganBlock):
    def forward(self, x):
        out, attention = super().forward(x)
        return out, attention.log()


class HalfSize(SaganBlock):
    def forward(self, x):
        return F.max_pool2d(super().forward(x)[0], 2)


class Fails(SaganBlock):
    def forward(self, x):
        torch.rand(1)
        raise KeyError("absent")


class FusedProjection(nn.Module):
    """lucidrains' and guided diffusion's: one convolution for three."""

    def __init__(self, channels):
        super().__init__()
        self.to_qkv, self.to_out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        q, k, v = self.to_qkv(x).flatten(2).chunk(3, 1)
        return self.to_out((v @ torch.softmax(q.mT @ k, -1).mT).view(x.shape))


class TokenAttention(nn.Module):
    """As diffusers' Attention: linear layers on tokens."""

    def __init__(self, channels):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))

    def forward(self, x):
        return torch.softmax(self.to_q(x) @ self.to_k(x).mT, -1) @ self.to_v(x)


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class Cbam(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.channel = SqueezeExcite(channels)
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x):
        x = self.channel(x)
        return x * torch.sigmoid(self.spatial(torch.cat([x.amax(1, True), x.mean(1, True)], 1)))


class Bottleneck(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels // 4, 3, 1, 1)
        self.conv3 = nn.Conv2d(channels // 4, channels, 1)
        self.downsample = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x):
        return F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))) + self.downsample(x))


class ThreeConvolutions(nn.Module):
    """The parts of a block and none of its attention."""

    def __init__(self, channels):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(channels, channels, 1) for _ in range(3))

    def forward(self, x):
        return self.c(F.relu(self.b(F.relu(self.a(x)))))
