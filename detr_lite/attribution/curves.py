"""Occlusion, and the curves of deletion and insertion."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from detr_lite.attribution.cells import Cells
from detr_lite.attribution.target_scores import AT_ONCE, TargetScores

STEPS = 10
FRACTIONS = (np.arange(STEPS + 1) / STEPS) ** 2
"""Of the cells. Closer together at first, where most is decided, as objects are small parts of an image."""
BLUR = 0.1
"""Standard deviation of the blurred image with which insertion begins, as a share of the longer side."""


def occlusion(
    scores: TargetScores, cells: Cells, pixels: Float[Tensor, "3 height width"], whole: Float[Tensor, " object"]
) -> Float[Tensor, "object cell"]:
    """How far each score falls when a cell is hidden: the mean of the windows around it, as a share of the score.

    After Zeiler and Fergus (arXiv 1311.2901, section 4.2). What is hidden gets the image's mean color.

    Args:
        whole: the scores in the image as it is.
    """
    windows = cells.windows()
    gray = mean_color(pixels)
    found = torch.cat([scores.of(cells.covered(pixels, gray, some)) for some in torch.split(windows, AT_ONCE)])
    falls = 1 - found / whole
    return falls.T @ (windows / windows.sum(0)).float()


def deletion_and_insertion(
    scores: TargetScores,
    cells: Cells,
    pixels: Float[Tensor, "3 height width"],
    whole: Float[Tensor, " object"],
    orders: Mapping[str, Float[Tensor, "object cell"]],
) -> tuple[dict[str, Float[np.ndarray, "object point"]], dict[str, Float[np.ndarray, "object point"]]]:
    """The curves at `FRACTIONS` of the cells, by the name of the order, as shares of the scores in the whole image.

    Args:
        orders: weights of the cells; the largest are hidden or shown first, equal ones in random order.
    """
    gray, blurred = mean_color(pixels), blur(pixels)
    ends = scores.of(torch.stack([gray.expand_as(pixels), blurred])) / whole
    counts = [round(fraction * cells.count) for fraction in FRACTIONS[1:-1]]
    deletion, insertion = {}, {}
    for name, weights in orders.items():
        inner = torch.zeros(2, len(whole), len(counts))
        for number, row in enumerate(weights):
            rank = _ranks(row)
            first = torch.stack([rank < count for count in counts])
            for kind, (cover, hidden) in enumerate(((gray, first), (blurred, ~first))):
                inner[kind, number] = scores.of(cells.covered(pixels, cover, hidden))[:, number] / whole[number]
        one = torch.ones(len(whole), 1)
        deletion[name] = torch.cat([one, inner[0], ends[0][:, None]], 1).double().numpy()
        insertion[name] = torch.cat([ends[1][:, None], inner[1], one], 1).double().numpy()
    return deletion, insertion


def altered_images(cells: Cells, objects: int, orders: int) -> int:
    """How many of them `occlusion` and `deletion_and_insertion` look at."""
    return cells.count + 2 + 2 * objects * orders * (STEPS - 1)


def mean_color(pixels: Float[Tensor, "3 height width"]) -> Float[Tensor, "3 1 1"]:
    return pixels.mean((1, 2), keepdim=True)


def blur(pixels: Float[Tensor, "3 height width"]) -> Float[Tensor, "3 height width"]:
    """With so large a kernel that the image is shrunk before and enlarged after it."""
    height, width = pixels.shape[1:]
    shrink = max(1, round(BLUR * max(height, width) / 4))
    small = F.resize(pixels, [max(1, height // shrink), max(1, width // shrink)], antialias=True)
    sigma = BLUR * max(small.shape[1:])
    kernel = [2 * min(round(3 * sigma), side - 1) + 1 for side in (small.shape[2], small.shape[1])]
    blurred: Tensor = F.resize(F.gaussian_blur(small, kernel, [sigma, sigma]), [height, width], antialias=True)
    return blurred


def _ranks(weights: Float[Tensor, " cell"]) -> Tensor:
    """0 for the largest; equal weights in an order that depends on nothing but their number."""
    mixed = torch.randperm(len(weights), generator=torch.Generator().manual_seed(len(weights)))
    rank = torch.empty(len(weights), dtype=torch.long)
    rank[mixed[weights[mixed].argsort(descending=True, stable=True)]] = torch.arange(len(weights))
    return rank
