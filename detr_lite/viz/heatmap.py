"""Attention weights of tokens as a picture over the image."""

from collections.abc import Sequence
from math import ceil, log2

import matplotlib
import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

COLORMAP = matplotlib.colormaps["inferno"]  # perceptually uniform, and dark where nothing is
_LONGEST_SIDE = 384  # of a panel's picture, in pixels: more than a page shows of it


def token_heatmap(
    weights: Float[Tensor, " token"], grids: Sequence[tuple[int, int]], is_padding: Bool[Tensor, " token"]
) -> Float[np.ndarray, "height width"]:
    """Tokens' weights as a picture of the unpadded image, one value for each token of the finest level.

    Coarser levels are enlarged and added, a token's weight spread over the cells it covers, so that the sum over the
    picture is the sum over the tokens that are not padding.
    """
    shares = torch.split(weights.detach().float().cpu(), [height * width for height, width in grids])
    paddings = torch.split(is_padding.cpu(), [height * width for height, width in grids])
    levels = []
    for share, padding, grid in zip(shares, paddings, grids, strict=True):
        # Padding lies at the right and at the bottom, so what is left of the grid is a rectangle.
        is_image = ~padding.view(grid)
        levels.append(share.view(grid)[is_image.any(dim=1)][:, is_image.any(dim=0)])
    finest = max(levels, key=Tensor.numel)
    heat = torch.zeros_like(finest)
    for level in levels:
        # Enlarged by the strides' ratio, then cut: a coarse grid reaches beyond the fine one where a side does not
        # divide. The ratio is a power of two, and the grids' sizes tell it, as one is less than a token too large.
        ratio = max(2 ** ceil(log2(fine / coarse)) for fine, coarse in zip(finest.shape, level.shape, strict=True))
        resized = torch.nn.functional.interpolate(level[None, None], scale_factor=ratio, mode="bilinear")[0, 0]
        resized = resized[: finest.shape[0], : finest.shape[1]]
        heat += resized * (level.sum() / resized.sum().clamp(min=1e-12))
    return heat.numpy()


def overlay(
    image: Image.Image, heat: Float[np.ndarray, "height width"], span: tuple[float, float] | None = None
) -> Image.Image:
    """The heat, scaled to its peak, over the dimmed grey image.

    `span` is the image's (width, height) in tokens, where the last tokens reach beyond it; by default they do not.
    """
    gray = np.asarray(reduced(image).convert("L"), dtype=np.float32)[..., None] / 255
    tokens = torch.from_numpy(heat / max(float(heat.max()), 1e-12))[None, None]
    # Bicubic undershoots beside a peak; a weight is never negative.
    height, width = gray.shape[:2]
    span_width, span_height = span or heat.shape[::-1]
    # The tokens' own rectangle, of which the image is the upper left part.
    size = (
        max(height, round(height * heat.shape[0] / span_height)),
        max(width, round(width * heat.shape[1] / span_width)),
    )
    spread = torch.nn.functional.interpolate(tokens, size, mode="bicubic")[0, 0]
    smooth = spread[:height, :width].clamp(0, 1).numpy()
    opacity = 0.9 * np.sqrt(smooth)[..., None]  # weak attention stays visible, no attention leaves the image
    picture = (1 - opacity) * 0.55 * gray + opacity * COLORMAP(smooth)[..., :3]
    return Image.fromarray((255 * picture).round().astype(np.uint8))


def reduced(image: Image.Image) -> Image.Image:
    """In colours, and no larger than a panel shows."""
    picture = image.convert("RGB")
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return picture
