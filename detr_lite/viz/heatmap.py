"""Attention weights of tokens as a heatmap over the image."""

from math import prod

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from detr_lite.structures import AttentionMaps
from detr_lite.viz.close_up import Part

COLORMAP = matplotlib.colormaps["inferno"]  # perceptually uniform, and dark at zero
_LONGEST_SIDE = 384  # pixels of a panel's image: more than a figure shows of it


def token_heatmap(
    weights: Float[Tensor, " token"], maps: AttentionMaps, image: int = 0
) -> Float[np.ndarray, "height width"]:
    """A heatmap of the unpadded image, with one value for each token of the finest level.

    Coarser levels are upsampled and added. A token's weight is spread over the cells that it covers, so that the
    heatmap sums to the weights of all tokens that are not padding.

    Args:
        weights: of the tokens of all levels, or of the encoder's level alone.
        image: index in the batch.
    """
    levels = _levels_of(len(weights), maps)
    tokens = torch.split(weights.detach().float().cpu(), [prod(maps.grids[level]) for level in levels])
    by_level = {}
    for level, values in zip(levels, tokens, strict=True):
        height, width = maps.unpadded_grid(image, level)
        by_level[level] = values.view(maps.grids[level])[:height, :width]
    finest = max(by_level, key=lambda level: by_level[level].numel())
    heatmap = torch.zeros_like(by_level[finest])
    for level, values in by_level.items():
        # Upsampled by the ratio of strides, then cropped: where a side does not divide, a coarse grid reaches beyond
        # the fine one.
        ratio = max(1, round((maps.spans[image, finest] / maps.spans[image, level].clamp(min=1e-12)).max().item()))
        upsampled = torch.nn.functional.interpolate(values[None, None], scale_factor=ratio, mode="bilinear")[0, 0]
        upsampled = upsampled[: heatmap.shape[0], : heatmap.shape[1]]
        heatmap += upsampled * (values.sum() / upsampled.sum().clamp(min=1e-12))
    return heatmap.numpy()


def finest_span(maps: AttentionMaps, image: int = 0) -> tuple[float, float]:
    """The image's (width, height) in tokens of the finest level, not rounded, as `overlay` takes it."""
    finest = max(range(len(maps.grids)), key=lambda level: prod(maps.grids[level]))
    width, height = maps.spans[image, finest].tolist()
    return width, height


def overlay(
    image: Image.Image,
    heatmap: Float[np.ndarray, "height width"],
    span: tuple[float, float] | None = None,
    part: Part | None = None,
) -> Image.Image:
    """The heatmap, scaled to its peak, over the dimmed grayscale image.

    Args:
        span: the image's (width, height) in tokens, where the last tokens reach beyond it; by default they do not.
        part: of the image to be shown alone, in its pixels; the scale is that of the whole.
    """
    picture = reduced(image) if part is None else enlarged_part(image, part)
    gray = np.asarray(picture.convert("L"), dtype=np.float32)[..., None] / 255
    tokens = torch.from_numpy(heatmap / max(float(heatmap.max()), 1e-12))[None, None]
    left, top, right, bottom = part or (0, 0, *image.size)
    # The position of each pixel's center among all tokens, from -1 to 1, as `grid_sample` takes it.
    positions = [
        2 * (low + (torch.arange(pixels) + 0.5) * (high - low) / pixels) / side * tokens_across / count - 1
        for low, high, pixels, side, tokens_across, count in zip(
            (left, top), (right, bottom), picture.size, image.size, span or heatmap.shape[::-1], heatmap.shape[::-1],
            strict=True,
        )
    ]  # fmt: skip
    grid = torch.stack(torch.meshgrid(*positions, indexing="xy"), dim=-1)[None]
    resized = torch.nn.functional.grid_sample(
        tokens, grid.to(tokens.dtype), mode="bicubic", padding_mode="border", align_corners=False
    )[0, 0]
    # Bicubic interpolation undershoots beside a peak, but weights are never negative.
    smooth = resized.clamp(0, 1).numpy()
    opacity = 0.9 * np.sqrt(smooth)[..., None]  # weak attention stays visible, no attention leaves the image
    blended = (1 - opacity) * 0.55 * gray + opacity * COLORMAP(smooth)[..., :3]
    return Image.fromarray((255 * blended).round().astype(np.uint8))


def reduced(image: Image.Image) -> Image.Image:
    """In RGB, and no larger than a panel shows."""
    picture = image.convert("RGB")
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return picture


def enlarged_part(image: Image.Image, part: Part) -> Image.Image:
    """A part of the image in RGB, as large as a panel shows, also if it has fewer pixels."""
    picture = image.crop(part).convert("RGB")
    scale = _LONGEST_SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _levels_of(tokens: int, maps: AttentionMaps) -> list[int]:
    """All levels, or the encoder's: whichever has so many tokens."""
    sizes = [prod(grid) for grid in maps.grids]
    if tokens == sum(sizes):
        return list(range(len(sizes)))
    if tokens == prod(maps.encoder_grids[-1]):
        return [maps.encoder_level]
    raise ValueError(f"{tokens} weights fit neither all levels nor the encoder's, of {sizes} tokens")
