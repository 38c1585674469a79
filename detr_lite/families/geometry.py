"""Where the tokens of other people's models lie in the image: strides, padding and spans of their grids."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def token_stride(image_size: tuple[int, int], grid: tuple[int, int], patch_size: int | None = None) -> float:
    """The pixels from one token to the next.

    It cannot be a quotient of sizes, because convolutions round sizes up where the stride does not divide them.

    Args:
        image_size: (height, width) with padding, in pixels.
        patch_size: of a vision transformer, whose grids are its patches, or twice or half as fine. The strides of
            convolutional networks are powers of 2.
    """
    quotients = [pixels / tokens for pixels, tokens in zip(image_size, grid, strict=True)]
    if patch_size is None:
        return float(2 ** math.ceil(math.log2(max(quotients))))
    return float(patch_size * 2.0 ** round(math.log2(max(quotients) / patch_size)))


def token_spans(
    is_padding: Bool[Tensor, "batch height width"], grids: Sequence[tuple[int, int]], patch_size: int | None = None
) -> Float[Tensor, "batch level 2"]:
    """(width, height) of each unpadded image in tokens of each level, as of `AttentionMaps.spans`."""
    # Images are padded at the right and bottom, so the first row and column give their sizes.
    sizes = torch.stack([(~is_padding[:, 0, :]).sum(1), (~is_padding[:, :, 0]).sum(1)], dim=1)
    height, width = is_padding.shape[1:]
    return torch.stack([sizes / token_stride((height, width), grid, patch_size) for grid in grids], dim=1)


def token_padding(
    is_padding: Bool[Tensor, "batch height width"], grids: Sequence[tuple[int, int]]
) -> Bool[Tensor, "batch token"]:
    """Which tokens are padding: the mask of the pixels, resized to each grid as in `transformers`."""
    mask = is_padding[:, None].float()
    return torch.cat([F.interpolate(mask, size=grid)[:, 0].bool().flatten(1) for grid in grids], dim=1)
