"""How much each part of an image contributed to detections, by several methods, and which of them tells the truth.

Deletion hides the cells of an image one after the other, those first to which a method gives most; insertion begins
with a blurred image and shows them in the same order (RISE, arXiv 1806.07421, section 4.3; for detectors D-RISE, arXiv
2006.03204, section 4.3). The better a method, the sooner the score falls in deletion and rises in insertion. Two
controls say what these numbers are without knowing the model: cells by their distance to the box, and random ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from detr_lite.text import text_table

ATTENTION, RELEVANCE, OCCLUSION = METHODS = ("attention", "relevance", "occlusion")
"""Cross-attention of the last layer, averaged over heads; gradient-weighted relevance over all layers (arXiv
2103.15679); how much the score falls when a part of the image is hidden."""
BOX, RANDOM = CONTROLS = ("box", "random")
"""Cells by their distance to the box, and in random order."""
RANKINGS = (*METHODS, *CONTROLS)
TITLES = {**{name: name for name in METHODS}, BOX: "distance to the box", RANDOM: "random order"}
"""What they are called in tables and figures."""


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
    areas: Float[np.ndarray, " object"] = np.trapezoid(curves, fractions, axis=1)
    return areas


@dataclass(frozen=True)
class AttributionMetrics:
    """The areas under the curves of all objects, by method and control. Of deletion a small one is good."""

    deletion: Mapping[str, Float[np.ndarray, " object"]]
    insertion: Mapping[str, Float[np.ndarray, " object"]]

    @staticmethod
    def of(images: Sequence[ImageAttribution]) -> "AttributionMetrics":
        """Of all images together."""

        def areas(kind: str) -> dict[str, Float[np.ndarray, " object"]]:
            each = {name: [area_under(one.fractions, getattr(one, kind)[name]) for one in images] for name in RANKINGS}
            return {name: np.concatenate([np.zeros(0), *parts]) for name, parts in each.items()}

        return AttributionMetrics(areas("deletion"), areas("insertion"))

    @property
    def objects(self) -> int:
        return len(self.deletion[ATTENTION])

    def score(self, name: str) -> Float[np.ndarray, " object"]:
        """Insertion minus deletion: 1 is very good, 0 that of a method that knows nothing of model and image."""
        difference: Float[np.ndarray, " object"] = self.insertion[name] - self.deletion[name]
        return difference

    def as_dict(self) -> dict[str, Any]:
        """For JSON: means, and half the width of their 95 % intervals, which is None for a single object."""
        methods = {
            name: {
                kind: dict(zip(("mean", "margin"), _mean(values), strict=True))
                for kind, values in (
                    ("deletion", self.deletion[name]),
                    ("insertion", self.insertion[name]),
                    ("insertion_minus_deletion", self.score(name)),
                )
            }
            for name in RANKINGS
        }
        return {"objects": self.objects, "methods": methods}

    def table(self) -> str:
        """One line for each method and control."""
        rows: list[tuple[str, ...]] = [("", "deletion", "insertion", "insertion - deletion")]
        for name in RANKINGS:
            columns = (self.deletion[name], self.insertion[name], self.score(name))
            rows.append((TITLES[name], *(_cell(values) for values in columns)))
        return text_table(rows)

    def sentence(self) -> str:
        """The main result in words; differences are called so where they are larger than their uncertainty."""
        best = max(METHODS, key=lambda name: float(self.score(name).mean()))
        against = compared(self.score(ATTENTION), self.score(BOX))
        last = f"attention is {against} ordering the image by the distance to the box"
        if compared(self.score(best), self.score(RANDOM)) != "better than":
            count = f"{self.objects:,} detection{'s' if self.objects != 1 else ''}"
            return f"as far as {count} can tell, no method is better than random order; {last}"
        others = {name: compared(self.score(name), self.score(best)) for name in METHODS if name != best}
        equal = [name for name, verdict in others.items() if verdict == "no different from"]
        first = f"{best} tells best what these scores depend on (small deletion, large insertion)"
        if equal:
            first += f", though {' and '.join(equal)} cannot be told apart from it with so few detections"
        if compared(self.score(best), self.score(BOX)) == "worse than":
            last = "the distance to the box, which knows nothing of the model, is better than any method"
        return f"{first}; {last}"


def compared(one: Float[np.ndarray, " object"], other: Float[np.ndarray, " object"]) -> str:
    """ "better than", "worse than" or "no different from", as far as a paired 95 % interval tells."""
    difference = one - other
    mean, half = _mean(difference)
    if mean is None or half is None or abs(mean) <= half:
        return "no different from"
    return "better than" if mean > 0 else "worse than"


def _mean(values: Float[np.ndarray, " object"]) -> tuple[float | None, float | None]:
    """The mean, and half the width of its 95 % interval by Student's t, as objects are often few."""
    count = len(values)
    if not count:
        return None, None
    half = float(stdtrit(count - 1, 0.975) * values.std(ddof=1)) / count**0.5 if count > 1 else None
    return float(values.mean()), half


def _cell(values: Float[np.ndarray, " object"]) -> str:
    mean, half = _mean(values)
    return "-" if mean is None else f"{mean:.3f}" if half is None else f"{mean:.3f} +- {half:.3f}"
