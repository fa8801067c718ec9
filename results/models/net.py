"""torchvision's ResNet-50 and ViT-B/16, as they are and with a SAGAN block in them: for `attnprof model`."""

import torch
import torchvision
from torch import nn


class SelfAttention(nn.Module):
    """The block as everyone writes it (Zhang et al. 2018, arXiv:1805.08318)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels // 8, 1)
        self.key_conv = nn.Conv2d(channels, channels // 8, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (conv(x).flatten(2) for conv in (self.query_conv, self.key_conv, self.value_conv))
        attention = torch.softmax(query.mT @ key, dim=-1)
        return self.gamma * (value @ attention.mT).view(x.shape) + x


def resnet50() -> nn.Module:
    return torchvision.models.resnet50()


def resnet50_sagan() -> nn.Module:
    """Behind the first stage, on 256 channels of 56 x 56."""
    model = torchvision.models.resnet50()
    model.layer1.append(SelfAttention(256))
    return model


def vit_b_16() -> nn.Module:
    return torchvision.models.vit_b_16()


def vit_b_16_sagan() -> nn.Module:
    """On the patches before they become tokens, 768 channels of 14 x 14."""
    model = torchvision.models.vit_b_16()
    model.conv_proj = nn.Sequential(model.conv_proj, SelfAttention(768))
    return model
