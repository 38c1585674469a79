"""Feature maps of plain vision transformers at strides other than the patch size."""

from collections.abc import Sequence

from jaxtyping import Float
from timm.layers import LayerNorm2d
from torch import Tensor, nn


def pyramid_strides(patch: int) -> list[int]:
    """Strides of a pyramid for a patch size: a quarter to four times, as far as they are whole numbers."""
    return [4 * patch // ratio for ratio in (16, 8, 4, 2, 1) if 4 * patch % ratio == 0]


class SimplePyramid(nn.Module):
    """Maps at several strides from the last map of a plain ViT (simple feature pyramid, ViTDet, arXiv 2203.16527).

    Transposed convolutions, each of which halves the stride and the channels, give finer maps, max-pooling coarser
    ones. The paper's 1x1 and 3x3 convolutions that follow are the encoder's projection and neck here.

    Args:
        channels: number of channels of the ViT's map.
        patch: stride of the ViT's map, in pixels.
        strides: strides of the output maps, from `pyramid_strides(patch)`.
    """

    def __init__(self, channels: int, patch: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level(channels, patch, stride) for stride in strides)
        self.channels = tuple(channels * min(stride, patch) // patch for stride in strides)

    def forward(self, features: Float[Tensor, "batch channel height width"]) -> list[Tensor]:
        """One map for each stride; the last tokens of coarser maps may reach beyond the input."""
        return [level(features) for level in self.levels]


def _level(channels: int, patch: int, stride: int) -> nn.Module:
    if stride == patch:
        return nn.Identity()
    if stride > patch:
        return nn.MaxPool2d(stride // patch, ceil_mode=True)
    layers: list[nn.Module] = []
    while stride < patch:
        if layers:
            layers += [LayerNorm2d(channels), nn.GELU()]
        # Kernel size = stride: every finer token is computed from the one token that contains it.
        layers.append(nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2))
        channels, stride = channels // 2, stride * 2
    return nn.Sequential(*layers)
