"""The training transform at the original's size, over many draws, against a simulation of the published rule.

The rule (arXiv 2005.12872, section 4, and the repository's settings): flip with probability 1/2; then, with probability
1/2, bring the shorter side to 400, 500 or 600 pixels and cut out a rectangle whose sides are drawn from 384 .. 600; in
any case bring the shorter side to one of 480, 512 ... 800, or the longer one to 1333 if that comes first.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from detr_lite.data.transforms import ResizeRule, training_transform

SCALES = tuple(range(480, 801, 32))
LONGEST = 1333
IMAGES = {"landscape": (426, 640), "upright": (640, 480), "panorama": (300, 640)}
"""(height, width); the panorama's longer side comes to its limit."""

BOXES_XYXY = (
    (0.00, 0.00, 0.04, 0.05),  # in each corner one, which tell whether an edge was cut off
    (0.96, 0.00, 1.00, 0.05),
    (0.00, 0.95, 0.04, 1.00),
    (0.96, 0.95, 1.00, 1.00),
    (0.40, 0.35, 0.60, 0.70),  # in the middle
    (0.05, 0.20, 0.35, 0.45),  # at the left
    (0.00, 0.10, 1.00, 0.90),  # across
)
"""Relative to the image's sides."""


@dataclass(frozen=True)
class Draw:
    """What became of an image and its boxes."""

    height: int
    width: int
    boxes_xyxy: dict[int, tuple[float, float, float, float]]
    """Of the objects that are still to be seen, relative to the new sides."""

    @property
    def is_whole(self) -> bool:
        """All corners are there, in full; a crop may take so little that it does not count."""
        return all(0.0018 < self.area(corner) < 0.0022 for corner in range(4))

    @property
    def is_flipped(self) -> bool:
        return self.boxes_xyxy[0][0] > 0.5

    def area(self, label: int) -> float:
        x0, y0, x1, y1 = self.boxes_xyxy.get(label, (0, 0, 0, 0))
        return (x1 - x0) * (y1 - y0)

    def middle(self, label: int, axis: int) -> float:
        """Beyond the image where the object is not to be seen."""
        box = self.boxes_xyxy.get(label, (2, 2, 2, 2))
        return (box[axis] + box[axis + 2]) / 2


STATISTICS: dict[str, Callable[[Draw], float]] = {
    "height": lambda draw: draw.height,
    "width": lambda draw: draw.width,
    "shorter side": lambda draw: min(draw.height, draw.width),
    "aspect": lambda draw: 500 * draw.width / draw.height,
    "objects": lambda draw: 100 * len(draw.boxes_xyxy),
    "whole": lambda draw: 100 * draw.is_whole,
    "area of the middle object": lambda draw: 1000 * draw.area(4),
    "area of the left object": lambda draw: 1000 * draw.area(5),
    "area of the wide object": lambda draw: 1000 * draw.area(6),
    "x of the left object": lambda draw: 1000 * draw.middle(5, axis=0),
    "y of the left object": lambda draw: 1000 * draw.middle(5, axis=1),
}
"""Scaled so that a few units are what the rounding of sides may change."""


def of_the_transform(size: tuple[int, int], draws: int) -> list[Draw]:
    whole = training_transform("detr", ResizeRule("shortest", 800, LONGEST))
    geometry = v2.Compose(whole.transforms[:-2])  # pixels' values are not asked for here, and take their time
    height, width = size
    boxes_xyxy = torch.tensor(BOXES_XYXY) * torch.tensor([width, height, width, height])
    boxes = tv_tensors.BoundingBoxes(boxes_xyxy, format="XYXY", canvas_size=size)
    torch.manual_seed(0)
    found = []
    for _ in range(draws):
        image, seen, labels = geometry(Image.new("L", (width, height)), boxes, torch.arange(len(boxes)))
        sides = image.shape[-2:]
        assert seen.canvas_size == tuple(sides)
        relative = seen.as_subclass(torch.Tensor) / torch.tensor([sides[1], sides[0], sides[1], sides[0]])
        found.append(Draw(*sides, dict(zip(labels.tolist(), map(tuple, relative.tolist()), strict=True))))
    return found


def resized(height: int, width: int, side: int, longest: int | None) -> tuple[int, int]:
    scale = side / min(height, width)
    if longest is not None:
        scale = min(scale, longest / max(height, width))
    return int(height * scale + 1e-6), int(width * scale + 1e-6)


def of_the_rule(
    size: tuple[int, int],
    draws: int,
    scales: Sequence[int] = SCALES,
    cropped: float = 0.5,
    first: Sequence[int] = (400, 500, 600),
    crop: tuple[int, int] = (384, 600),
    flipped: float = 0.5,
    longest: int = LONGEST,
) -> list[Draw]:
    """In numbers alone: what is to be seen is a window (x0, y0, x1, y1) of the image, then of some size."""
    dice = random.Random(1)
    found = []
    for _ in range(draws):
        mirror = dice.random() < flipped
        height, width, window = *size, (0.0, 0.0, 1.0, 1.0)
        if dice.random() < cropped:
            height, width = resized(*size, dice.choice(first), None)
            tall, wide = dice.randint(crop[0], min(height, crop[1])), dice.randint(crop[0], min(width, crop[1]))
            top, left = dice.randint(0, height - tall), dice.randint(0, width - wide)
            window = left / width, top / height, (left + wide) / width, (top + tall) / height
            height, width = tall, wide
        height, width = resized(height, width, dice.choice(scales), longest)
        seen = {}
        for label, (x0, y0, x1, y1) in enumerate(BOXES_XYXY):
            if mirror:
                x0, x1 = 1 - x1, 1 - x0
            x0, x1 = (min(max((x - window[0]) / (window[2] - window[0]), 0), 1) for x in (x0, x1))
            y0, y1 = (min(max((y - window[1]) / (window[3] - window[1]), 0), 1) for y in (y0, y1))
            if x0 < x1 and y0 < y1:
                seen[label] = (x0, y0, x1, y1)
        found.append(Draw(height, width, seen))
    return found


def apart(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> float:
    """Largest difference of two cumulative distributions (Kolmogorov and Smirnov's distance), but for rounding."""

    def below(values: np.ndarray, points: np.ndarray) -> np.ndarray:
        return np.searchsorted(np.sort(values), points, side="right") / len(values)

    points = np.concatenate([ours, theirs])
    more = below(ours, points) - below(theirs, points + tolerance)
    fewer = below(theirs, points) - below(ours, points + tolerance)
    return max(more.max(), fewer.max())


def distances(ours: list[Draw], theirs: list[Draw]) -> dict[str, float]:
    return {
        name: apart(np.array([value(draw) for draw in ours]), np.array([value(draw) for draw in theirs]), tolerance=4)
        for name, value in STATISTICS.items()
    }


DRAWN = 1000
SIMULATED = 10_000
LIMIT = 1.95 * (1 / DRAWN + 1 / SIMULATED) ** 0.5
"""Two samples of one distribution are farther apart once in a thousand times."""


@pytest.fixture(scope="module", params=IMAGES)
def draws(request: pytest.FixtureRequest) -> tuple[tuple[int, int], list[Draw]]:
    size = IMAGES[request.param]
    return size, of_the_transform(size, DRAWN)


def test_sizes_and_boxes_are_distributed_as_published(draws: Any) -> None:
    size, ours = draws
    found = distances(ours, of_the_rule(size, SIMULATED))
    assert max(found.values()) < LIMIT, found


def test_an_image_that_is_not_cropped_has_one_of_eleven_sizes_and_all_its_boxes(draws: Any) -> None:
    size, ours = draws
    whole = [draw for draw in ours if draw.is_whole]
    assert 0.45 < len(whole) / DRAWN < 0.57  # now and then a crop takes all
    possible = {side: resized(*size, side, LONGEST) for side in SCALES}
    counts = dict.fromkeys(possible.values(), 0)
    for draw in whole:
        near = [key for key in counts if abs(key[0] - draw.height) <= 1 and abs(key[1] - draw.width) <= 1]
        if near:
            counts[near[0]] += 1
        for label, (x0, y0, x1, y1) in enumerate(BOXES_XYXY):
            expected = (1 - x1, y0, 1 - x0, y1) if draw.is_flipped else (x0, y0, x1, y1)
            assert draw.boxes_xyxy[label] == pytest.approx(expected, abs=0.02)
    assert sum(counts.values()) > 0.95 * len(whole)
    # Each of the eleven sides as often, though the limit makes some of them the same size.
    for key, count in counts.items():
        share = list(possible.values()).count(key) / len(SCALES)
        assert count / len(whole) == pytest.approx(share, abs=0.05)


def test_every_image_keeps_to_the_limits_and_every_box_to_the_image(draws: Any) -> None:
    _, ours = draws
    for draw in ours:
        short, long = sorted((draw.height, draw.width))
        assert short in SCALES or LONGEST - 1 <= long <= LONGEST
        assert long <= LONGEST
        for x0, y0, x1, y1 in draw.boxes_xyxy.values():
            assert 0 <= x0 < x1 <= 1 + 1e-6
            assert 0 <= y0 < y1 <= 1 + 1e-6
    kept = [len(draw.boxes_xyxy) for draw in ours]
    assert min(kept) < len(BOXES_XYXY) == max(kept), "boxes outside a crop go"


@pytest.mark.parametrize(
    "other",
    [
        {"cropped": 0.35},
        {"scales": SCALES[:-1]},
        {"scales": (800,)},
        {"first": (400, 500)},
        {"crop": (300, 600)},
        {"crop": (384, 500)},
        {"flipped": 0.0},
    ],
    ids=str,
)
def test_another_rule_would_be_seen(other: dict[str, Any]) -> None:
    size = IMAGES["landscape"]
    found = distances(of_the_rule(size, DRAWN, **other), of_the_rule(size, SIMULATED))
    assert max(found.values()) > LIMIT, found


def test_another_limit_would_be_seen() -> None:
    size = IMAGES["panorama"]
    found = distances(of_the_rule(size, DRAWN, longest=1200), of_the_rule(size, SIMULATED))
    assert max(found.values()) > LIMIT, found
