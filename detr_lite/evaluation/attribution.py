"""How much each part of an image contributed to detections, by several methods, and which of them tells the truth.

Deletion hides the cells of an image one after the other, those first to which a method gives most; insertion begins
with a blurred image and shows them in the same order (RISE, arXiv 1806.07421, section 4.3; for detectors D-RISE, arXiv
2006.03204, section 4.3). The better a method, the sooner the score falls in deletion and rises in insertion. Two
controls say what these numbers are without knowing the model: cells by their distance to the box, and random ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

ATTENTION, RELEVANCE, OCCLUSION = METHODS = ("attention", "relevance", "occlusion")
"""Cross-attention of the last layer, averaged over heads; gradient-weighted relevance over all layers (arXiv
2103.15679); how much the score falls when a part of the image is hidden."""
BOX, RANDOM = CONTROLS = ("box", "random")
"""Cells by their distance to the box, and in random order."""


@dataclass(frozen=True)
class ImageAttribution:
    """Of some detections of one image, in the order of `queries`."""

    queries: tuple[int, ...]
    labels: tuple[int, ...]
    grid: tuple[int, int]
    """(rows, columns) of the cells into which the image is divided: of `occlusion` and of the curves."""
    relevance: Float[Tensor, "object token"]
    """Of the tokens of `AttentionMaps`; not negative. It has no unit: only comparisons within a row mean something."""
    occlusion: Float[Tensor, "object cell"]
    """How far the score falls, as a share of what it is, when windows of the image around the cell are hidden, row by
    row; negative where it rises."""
    fractions: Float[np.ndarray, " point"]
    """Shares of the cells that are hidden (deletion) or shown (insertion), from 0 to 1, not evenly spaced."""
    deletion: Mapping[str, Float[np.ndarray, "object point"]]
    """By method and control: the score as a share of that on the whole image, after so many cells were hidden."""
    insertion: Mapping[str, Float[np.ndarray, "object point"]]


def area_under(
    fractions: Float[np.ndarray, " point"], curves: Float[np.ndarray, "object point"]
) -> Float[np.ndarray, " object"]:
    """The area under each curve by the trapezoidal rule, which is the mean score."""
    return np.trapezoid(curves, fractions, axis=1)


@dataclass(frozen=True)
class AttributionMetrics:
    """The areas under the curves of all objects, by method and control."""

    deletion: Mapping[str, Float[np.ndarray, " object"]]
    insertion: Mapping[str, Float[np.ndarray, " object"]]

    @staticmethod
    def of(images: Sequence[ImageAttribution]) -> "AttributionMetrics":
        """Of all images together."""
        names = [*METHODS, *CONTROLS]

        def areas(kind: str) -> dict[str, Float[np.ndarray, " object"]]:
            each = {name: [area_under(one.fractions, getattr(one, kind)[name]) for one in images] for name in names}
            return {name: np.concatenate([np.zeros(0), *parts]) for name, parts in each.items()}

        return AttributionMetrics(areas("deletion"), areas("insertion"))
