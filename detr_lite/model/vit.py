"""Plain vision transformers: maps at other strides than the patch's, from the one map that they give."""

from collections.abc import Sequence

from jaxtyping import Float
from timm.layers import LayerNorm2d
from torch import Tensor, nn


def pyramid_strides(patch: int) -> list[int]:
    """Strides that a pyramid has for a patch size: two doublings either way, as far as they are whole numbers."""
    return [4 * patch // ratio for ratio in (16, 8, 4, 2, 1) if 4 * patch % ratio == 0]


class SimplePyramid(nn.Module):
    """Maps at several strides from the last map of a plain ViT (ViTDet, arXiv 2203.16527, section 3).

    A finer map comes by transposed convolutions, each of which halves the stride and the channels; a coarser one by
    max-pooling. Every level starts from the same map: the last one knows most, and has not lost the place of its
    patches. The paper's 1x1 and 3x3 convolutions that follow are the encoder's projection and neck here.

    Args:
        channels: of the ViT's map.
        patch: its stride.
        strides: of the maps to make, from `pyramid_strides(patch)`.
    """

    def __init__(self, channels: int, patch: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level(channels, patch, stride) for stride in strides)
        self.channels = tuple(channels * min(stride, patch) // patch for stride in strides)

    def forward(self, features: Float[Tensor, "batch channel height width"]) -> list[Tensor]:
        """One map for each stride. A token of a coarser map at the right or bottom may reach beyond the patches."""
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
        # As wide as its step: every finer token comes from the one token in which it lies.
        layers.append(nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2))
        channels, stride = channels // 2, stride * 2
    return nn.Sequential(*layers)
