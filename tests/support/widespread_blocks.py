"""Blocks as they are in users' models, written apart from attnprof by their public contracts: names and formulas."""

import torch
import torch.nn.functional as F
from torch import nn

from support.lookalike_blocks import CamModule
from support.sagan import SaganBlock


class SaganOutOnly(SaganBlock):
    """The same without its map."""

    def forward(self, x):
        return super().forward(x)[0]


class SaganKeepsMap(SaganBlock):
    """The map is kept for plotting."""

    def forward(self, x):
        out, self.attention = super().forward(x)
        return out


class BigGanAttention(nn.Module):
    """ajbrock/BigGAN-PyTorch, layers.py: 0-dim gamma, functional pooling, a class argument that is never read."""

    def __init__(self, ch):
        super().__init__()
        self.ch = ch
        self.theta = nn.Conv2d(ch, ch // 8, kernel_size=1, padding=0, bias=False)
        self.phi = nn.Conv2d(ch, ch // 8, kernel_size=1, padding=0, bias=False)
        self.g = nn.Conv2d(ch, ch // 2, kernel_size=1, padding=0, bias=False)
        self.o = nn.Conv2d(ch // 2, ch, kernel_size=1, padding=0, bias=False)
        self.gamma = nn.Parameter(torch.tensor(0.0), requires_grad=True)

    def forward(self, x, y=None):
        height, width = x.shape[2:]
        quarter = height * width // 4
        theta = self.theta(x).view(-1, self.ch // 8, height * width)
        phi = F.max_pool2d(self.phi(x), [2, 2]).view(-1, self.ch // 8, quarter)
        g = F.max_pool2d(self.g(x), [2, 2]).view(-1, self.ch // 2, quarter)
        beta = F.softmax(torch.bmm(theta.transpose(1, 2), phi), -1)
        out = self.o(torch.bmm(g, beta.transpose(1, 2)).view(-1, self.ch // 2, height, width))
        return self.gamma * out + x


class OfficialSagan(nn.Module):
    """voletiv/self-attention-GAN-pytorch: spectral norm throughout, a pooling module, sigma for gamma."""

    def __init__(self, in_channels, norm=torch.nn.utils.parametrizations.spectral_norm):
        super().__init__()
        self.in_channels = in_channels
        self.snconv1x1_theta = norm(nn.Conv2d(in_channels, in_channels // 8, 1))
        self.snconv1x1_phi = norm(nn.Conv2d(in_channels, in_channels // 8, 1))
        self.snconv1x1_g = norm(nn.Conv2d(in_channels, in_channels // 2, 1))
        self.snconv1x1_attn = norm(nn.Conv2d(in_channels // 2, in_channels, 1))
        self.maxpool = nn.MaxPool2d(2, stride=2, padding=0)
        self.softmax = nn.Softmax(dim=-1)
        self.sigma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        _, ch, h, w = x.size()
        theta = self.snconv1x1_theta(x).view(-1, ch // 8, h * w)
        phi = self.maxpool(self.snconv1x1_phi(x)).view(-1, ch // 8, h * w // 4)
        attn = self.softmax(torch.bmm(theta.permute(0, 2, 1), phi))
        g = self.maxpool(self.snconv1x1_g(x)).view(-1, ch // 2, h * w // 4)
        attn_g = self.snconv1x1_attn(torch.bmm(g, attn.permute(0, 2, 1)).view(-1, ch // 2, h, w))
        return x + self.sigma * attn_g


class FlatConv(nn.Sequential):
    """As fastai's ConvLayer: a convolution with its norm, in a class of its own."""

    def __init__(self, n_in, n_out):
        super().__init__(torch.nn.utils.parametrizations.spectral_norm(nn.Conv1d(n_in, n_out, 1, bias=False)))


class FastaiAttention(nn.Module):
    """fastai, layers.py: Conv1d on the flattened map, softmax over the first of the two position axes."""

    def __init__(self, n_channels):
        super().__init__()
        self.query, self.key = FlatConv(n_channels, n_channels // 8), FlatConv(n_channels, n_channels // 8)
        self.value = FlatConv(n_channels, n_channels)
        self.gamma = nn.Parameter(torch.tensor([0.0]))

    def forward(self, x):
        size = x.size()
        x = x.view(*size[:2], -1)
        f, g, h = self.query(x), self.key(x), self.value(x)
        beta = F.softmax(torch.bmm(f.transpose(1, 2), g), dim=1)
        return (self.gamma * torch.bmm(h, beta) + x).view(*size).contiguous()


class DanetHead(nn.Module):
    """Both attentions between 3x3 convolutions."""

    def __init__(self, channels):
        super().__init__()
        self.conv5a = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.sa = SaganOutOnly(channels)
        self.sc = CamModule()

    def forward(self, x):
        feat = self.conv5a(x)
        return self.sa(feat) + self.sc(feat)


class NonLocalBlock2D(nn.Module):
    """AlexHex7/Non-local_pytorch: embedded Gaussian, sub-sampling, batch norm, the map on request."""

    def __init__(self, in_channels, sub_sample=True, bn_layer=True):
        super().__init__()
        self.inter_channels = in_channels // 2
        self.g = nn.Conv2d(in_channels, self.inter_channels, kernel_size=1)
        self.theta = nn.Conv2d(in_channels, self.inter_channels, kernel_size=1)
        self.phi = nn.Conv2d(in_channels, self.inter_channels, kernel_size=1)
        self.W = nn.Conv2d(self.inter_channels, in_channels, kernel_size=1)
        nn.init.zeros_(self.W.weight)
        nn.init.zeros_(self.W.bias)
        if bn_layer:
            self.W = nn.Sequential(
                nn.Conv2d(self.inter_channels, in_channels, kernel_size=1), nn.BatchNorm2d(in_channels)
            )
            nn.init.zeros_(self.W[1].weight)
        if sub_sample:
            self.g = nn.Sequential(self.g, nn.MaxPool2d(kernel_size=(2, 2)))
            self.phi = nn.Sequential(self.phi, nn.MaxPool2d(kernel_size=(2, 2)))

    def forward(self, x, return_nl_map=False):
        batch_size = x.size(0)
        g_x = self.g(x).view(batch_size, self.inter_channels, -1).permute(0, 2, 1)
        theta_x = self.theta(x).view(batch_size, self.inter_channels, -1).permute(0, 2, 1)
        phi_x = self.phi(x).view(batch_size, self.inter_channels, -1)
        f_div_c = F.softmax(torch.matmul(theta_x, phi_x), dim=-1)
        y = torch.matmul(f_div_c, g_x).permute(0, 2, 1).contiguous()
        z = self.W(y.view(batch_size, self.inter_channels, *x.size()[2:])) + x
        return (z, f_div_c) if return_nl_map else z


class ConvModule(nn.Module):
    """As mmcv's: convolution, norm and activation by name."""

    def __init__(self, n_in, n_out, norm=False):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, 1, bias=not norm)
        self.bn = nn.BatchNorm2d(n_out) if norm else None
        nn.init.normal_(self.conv.weight, std=0.01)

    def forward(self, x):
        x = self.conv(x)
        return x if self.bn is None else self.bn(x)


class NonLocal2d(nn.Module):
    """open-mmlab/mmcv, non_local.py: the pairwise function is a method, scaled or not, all C channels or half."""

    def __init__(self, in_channels, reduction=2, use_scale=True, mode="embedded_gaussian"):
        super().__init__()
        self.use_scale, self.mode = use_scale, mode
        self.inter_channels = in_channels // reduction
        self.g = ConvModule(in_channels, self.inter_channels)
        self.conv_out = ConvModule(self.inter_channels, in_channels, norm=True)
        self.theta = ConvModule(in_channels, self.inter_channels)
        self.phi = ConvModule(in_channels, self.inter_channels)

    def embedded_gaussian(self, theta_x, phi_x):
        pairwise_weight = torch.matmul(theta_x, phi_x)
        if self.use_scale:
            pairwise_weight /= theta_x.shape[-1] ** 0.5
        return pairwise_weight.softmax(dim=-1)

    def dot_product(self, theta_x, phi_x):
        pairwise_weight = torch.matmul(theta_x, phi_x)
        pairwise_weight /= pairwise_weight.shape[-1]
        return pairwise_weight

    def forward(self, x):
        n = x.size(0)
        g_x = self.g(x).view(n, self.inter_channels, -1).permute(0, 2, 1)
        theta_x = self.theta(x).view(n, self.inter_channels, -1).permute(0, 2, 1)
        phi_x = self.phi(x).view(n, self.inter_channels, -1)
        y = torch.matmul(getattr(self, self.mode)(theta_x, phi_x), g_x)
        y = y.permute(0, 2, 1).contiguous().reshape(n, self.inter_channels, *x.size()[2:])
        return x + self.conv_out(y)


class DiffusionAttention(nn.Module):
    """CompVis/latent-diffusion and DDPM: a norm in front, scores scaled by C ** -0.5, an output convolution."""

    def __init__(self, in_channels, norm=None):
        super().__init__()
        self.norm = norm or nn.GroupNorm(4, in_channels, eps=1e-6)
        self.q, self.k, self.v = (nn.Conv2d(in_channels, in_channels, 1) for _ in range(3))
        self.proj_out = nn.Conv2d(in_channels, in_channels, 1)

    def forward(self, x):
        h_ = self.norm(x)
        q, k, v = self.q(h_), self.k(h_), self.v(h_)
        b, c, h, w = q.shape
        w_ = torch.bmm(q.reshape(b, c, h * w).permute(0, 2, 1), k.reshape(b, c, h * w)) * (int(c) ** (-0.5))
        w_ = F.softmax(w_, dim=2).permute(0, 2, 1)
        h_ = torch.bmm(v.reshape(b, c, h * w), w_).reshape(b, c, h, w)
        return x + self.proj_out(h_)


class FusedDiffusionAttention(DiffusionAttention):
    """black-forest-labs/flux: the same by scaled_dot_product_attention, whose scale it is."""

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2).mT.unsqueeze(1).contiguous() for conv in (self.q, self.k, self.v))
        return x + self.proj_out(F.scaled_dot_product_attention(q, k, v).squeeze(1).mT.reshape(x.shape))


class WrappedSpectralNorm(nn.Module):
    """christiancosgrove/pytorch-spectral-normalization-gan: a wrapper that writes its vectors through .data."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        weight = module.weight
        del module._parameters["weight"]
        height, width = weight.shape[0], weight.view(weight.shape[0], -1).shape[1]
        module.register_parameter("weight_u", nn.Parameter(F.normalize(torch.randn(height), dim=0), False))
        module.register_parameter("weight_v", nn.Parameter(F.normalize(torch.randn(width), dim=0), False))
        module.register_parameter("weight_bar", nn.Parameter(weight.data))

    def forward(self, x):
        m = self.module
        w = m.weight_bar
        flat = w.view(w.shape[0], -1)
        m.weight_v.data = F.normalize(torch.mv(flat.data.t(), m.weight_u.data), dim=0)
        m.weight_u.data = F.normalize(torch.mv(flat.data, m.weight_v.data), dim=0)
        m.weight = w / m.weight_u.dot(flat.mv(m.weight_v)).expand_as(w)
        return m(x)


class PositionAttention(nn.Module):
    """As mmsegmentation's PAM: the weight in a module of its own, the skip outside of the projections' class."""

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.0))

        def forward(self, x):
            return x * self.scale

    def __init__(self, in_channels):
        super().__init__()
        self.query_project, self.key_project = (ConvModule(in_channels, in_channels // 4) for _ in range(2))
        self.value_project = ConvModule(in_channels, in_channels)
        self.gamma = self.Scale()

    def forward(self, x):
        query = self.query_project(x).flatten(2).permute(0, 2, 1)
        key = self.key_project(x).flatten(2)
        value = self.value_project(x).flatten(2).permute(0, 2, 1)
        context = torch.matmul(F.softmax(torch.matmul(query, key), dim=-1), value).permute(0, 2, 1)
        return self.gamma(context.contiguous().reshape(*x.shape)) + x


class FusedSagan(SaganBlock):
    """A map of its own shape, and a scaled_dot_product_attention inside."""

    def forward(self, x):
        q, k, v = (conv(x).flatten(2).mT.unsqueeze(1) for conv in (self.query_conv, self.key_conv, self.value_conv))
        out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        return self.gamma * out.squeeze(1).mT.reshape(x.shape) + x


class MapOfPlaces(SaganBlock):
    """Its map by height and width, and in front."""

    def forward(self, x):
        out, attention = super().forward(x)
        return attention.view(len(x), *x.shape[2:], *x.shape[2:]), out


class ColumnsMap(SaganBlock):
    """Queries in its map's columns."""

    def forward(self, x):
        out, attention = super().forward(x)
        return [out, attention.transpose(1, 2)]


class TemperedSagan(SaganBlock):
    """An optional argument that changes what it computes."""

    def forward(self, x, temperature=1.0):
        energy = torch.bmm(self.query_conv(x).flatten(2).mT, self.key_conv(x).flatten(2)) / temperature
        out = torch.bmm(self.value_conv(x).flatten(2), torch.softmax(energy, -1).mT)
        return self.gamma * out.view(x.shape) + x


class TermOnly(SaganBlock):
    """Whoever calls it adds the map."""

    def forward(self, x):
        return super().forward(x)[0] - x


class SoftmaxInFloat32(SaganBlock):
    """As half-precision models have it."""

    def forward(self, x):
        q, k, v = (conv(x).flatten(2) for conv in (self.query_conv, self.key_conv, self.value_conv))
        weights = torch.softmax((q.mT @ k).float(), -1).to(x.dtype)
        return x + self.gamma * (v @ weights.mT).view(x.shape)


class ScaledByChannel(SaganBlock):
    """A weight for each channel."""

    def __init__(self, channels):
        super().__init__(channels)
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x):
        return super().forward(x)[0]


class PostNorm(SaganBlock):
    """No weight, an output convolution and a norm of its own behind it."""

    def __init__(self, channels):
        super().__init__(channels)
        del self.gamma
        self.out_conv, self.norm = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)

    def forward(self, x):
        q, k, v = (conv(x).flatten(2) for conv in (self.query_conv, self.key_conv, self.value_conv))
        return x + self.norm(self.out_conv((v @ torch.softmax(q.mT @ k, -1).mT).view(x.shape)))


class SharedQueryKey(SaganOutOnly):
    def __init__(self, channels):
        super().__init__(channels)
        self.key_conv = self.query_conv


class Unnamed(nn.Module):
    """Names that say nothing."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, channels // 8, 1), nn.Conv2d(channels, channels // 8, 1)
        self.conv3 = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        weights = torch.softmax(self.conv2(x).flatten(2).mT @ self.conv1(x).flatten(2), -1)
        return x + (self.conv3(x).flatten(2) @ weights.mT).view(x.shape)
