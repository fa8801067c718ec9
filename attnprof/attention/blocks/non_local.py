"""The non-local block in its embedded-Gaussian form."""

# Registered in blocks.catalogue.BLOCKS as "non_local:NonLocalBlock2d".

from __future__ import annotations

from torch import Tensor, nn

from attnprof.attention.blocks.base import AttentionBlock
from attnprof.attention.checkpoint_and_autocast import AttentionOutput
from attnprof.attention.projections import BlockParts
from attnprof.attention.strategy import Strategy


class NonLocalBlock2d(AttentionBlock):
    """The embedded-Gaussian non-local block (Wang et al. 2017, arXiv:1711.07971, eq. 4 and 6, section 3.3).

        out = W(g(x) softmax(theta(x)^T phi(x))^T) + x

    The 1x1 convolutions theta, phi and g go to C / reduction channels. W goes back to C and is followed by a batch norm
    whose weight starts at zero. With `sub_sample`, phi and g are max-pooled 2x2, which leaves out an odd last row or
    column. The names of the parameters are those of the widespread PyTorch block (AlexHex7/Non-local_pytorch), whose
    `state_dict` loads unchanged.

    Args:
        in_channels: C.
        strategy: how the block is computed; see `attnprof.attention.COMPONENTS`. `pooled` pools keys and
            values further.
        reduction: C / (channels of theta, phi and g); 2 in the paper.
        sub_sample: whether keys and values are pooled.

    Raises:
        StrategyError: the strategy is unknown or impossible.
        ValueError: `in_channels` is not divisible by `reduction`.
    """

    def __init__(
        self, in_channels: int, strategy: str | Strategy = "chunked", *, reduction: int = 2, sub_sample: bool = True
    ) -> None:
        super().__init__(in_channels, strategy, reduction)
        reduced = in_channels // reduction
        self.g: nn.Module = nn.Conv2d(in_channels, reduced, kernel_size=1)
        self.theta = nn.Conv2d(in_channels, reduced, kernel_size=1)
        self.phi: nn.Module = nn.Conv2d(in_channels, reduced, kernel_size=1)
        if sub_sample:
            self.g = nn.Sequential(self.g, nn.MaxPool2d(2))
            self.phi = nn.Sequential(self.phi, nn.MaxPool2d(2))
        self.W = nn.Sequential(nn.Conv2d(reduced, in_channels, kernel_size=1), nn.BatchNorm2d(in_channels))
        for parameter in self.W[1].parameters():
            nn.init.zeros_(parameter)
        self._cast_parameters()

    def residual_weights(self) -> list[nn.Parameter]:
        """Return the weight of the batch norm behind W."""
        return [self.get_parameter("W.1.weight")]

    def _attend(self, x: Tensor) -> AttentionOutput:
        reduced = self.in_channels // self.reduction
        parts = BlockParts(
            self.theta, self.phi, self.g, gamma=None, reduced=reduced, value_channels=reduced, output=self.W
        )
        return self._compute(x, parts)
