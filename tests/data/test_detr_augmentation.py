"""The distribution of the training transform at the original's size, against a simulation of the published rule.

The rule (arXiv 2005.12872, section 4, and the repository's settings): flip with probability 1/2; then, with probability
1/2, resize the shorter side to 400, 500 or 600 pixels and cut out a rectangle whose sides are drawn from 384 .. 600; in
any case resize the shorter side to one of 480, 512 ... 800, or the longer one to 1333 if that comes first.
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

from detr_lite.data.augmentation.settings import PRESETS
from detr_lite.data.augmentation.training import training_transform
from detr_lite.data.transforms import ResizeRule

pytestmark = pytest.mark.slow

SCALES = tuple(range(480, 801, 32))
LONGEST = 1333
IMAGES = {"landscape": (426, 640), "upright": (640, 480), "panorama": (300, 640)}
"""(height, width); the panorama reaches the limit on the longer side."""

BOXES_XYXY = (
    (0.00, 0.00, 0.04, 0.05),  # one in each corner, which show whether an edge was cropped
    (0.96, 0.00, 1.00, 0.05),
    (0.00, 0.95, 0.04, 1.00),
    (0.96, 0.95, 1.00, 1.00),
    (0.40, 0.35, 0.60, 0.70),  # in the center
    (0.05, 0.20, 0.35, 0.45),  # on the left
    (0.00, 0.10, 1.00, 0.90),  # across the image
)
"""Relative to the image's sides."""


@dataclass(frozen=True)
class Sample:
    """The size of an augmented image, and its boxes."""

    height: int
    width: int
    boxes_xyxy: dict[int, tuple[float, float, float, float]]
    """Of the visible objects by label, relative to the new size."""

    @property
    def is_uncropped(self) -> bool:
        """All corners are complete, up to the tolerance of a crop of almost the entire image."""
        return all(0.0018 < self.area(corner) < 0.0022 for corner in range(4))

    @property
    def is_flipped(self) -> bool:
        return self.boxes_xyxy[0][0] > 0.5

    def area(self, label: int) -> float:
        x0, y0, x1, y1 = self.boxes_xyxy.get(label, (0, 0, 0, 0))
        return (x1 - x0) * (y1 - y0)

    def middle(self, label: int, axis: int) -> float:
        """Beyond the image if the object is not visible."""
        box = self.boxes_xyxy.get(label, (2, 2, 2, 2))
        return (box[axis] + box[axis + 2]) / 2


STATISTICS: dict[str, Callable[[Sample], float]] = {
    "height": lambda sample: sample.height,
    "width": lambda sample: sample.width,
    "shorter side": lambda sample: min(sample.height, sample.width),
    "aspect": lambda sample: 500 * sample.width / sample.height,
    "objects": lambda sample: 100 * len(sample.boxes_xyxy),
    "uncropped": lambda sample: 100 * sample.is_uncropped,
    "area of the middle object": lambda sample: 1000 * sample.area(4),
    "area of the left object": lambda sample: 1000 * sample.area(5),
    "area of the wide object": lambda sample: 1000 * sample.area(6),
    "x of the left object": lambda sample: 1000 * sample.middle(5, axis=0),
    "y of the left object": lambda sample: 1000 * sample.middle(5, axis=1),
}
"""Scaled so that rounding of the size changes them by a few units."""


def of_the_transform(size: tuple[int, int], count: int) -> list[Sample]:
    transform = training_transform(PRESETS["detr"], ResizeRule("shortest", 800, LONGEST))
    geometry = v2.Compose(transform.transforms[:-2])  # without normalization, as only sizes and boxes matter
    height, width = size
    boxes_xyxy = torch.tensor(BOXES_XYXY) * torch.tensor([width, height, width, height])
    boxes = tv_tensors.BoundingBoxes(boxes_xyxy, format="XYXY", canvas_size=size)
    torch.manual_seed(0)
    found = []
    for _ in range(count):
        image, seen, labels = geometry(Image.new("L", (width, height)), boxes, torch.arange(len(boxes)))
        sides = image.shape[-2:]
        assert seen.canvas_size == tuple(sides)
        relative = seen.as_subclass(torch.Tensor) / torch.tensor([sides[1], sides[0], sides[1], sides[0]])
        found.append(Sample(*sides, dict(zip(labels.tolist(), map(tuple, relative.tolist()), strict=True))))
    return found


def resized(height: int, width: int, side: int, longest: int | None) -> tuple[int, int]:
    scale = side / min(height, width)
    if longest is not None:
        scale = min(scale, longest / max(height, width))
    return int(height * scale + 1e-6), int(width * scale + 1e-6)


def of_the_rule(
    size: tuple[int, int],
    count: int,
    scales: Sequence[int] = SCALES,
    cropped: float = 0.5,
    first: Sequence[int] = (400, 500, 600),
    crop: tuple[int, int] = (384, 600),
    flipped: float = 0.5,
    longest: int = LONGEST,
) -> list[Sample]:
    """A simulation without pixels: the visible part is a window (x0, y0, x1, y1) of the image, with a size."""
    rng = random.Random(1)
    found = []
    for _ in range(count):
        is_flipped = rng.random() < flipped
        height, width, window = *size, (0.0, 0.0, 1.0, 1.0)
        if rng.random() < cropped:
            height, width = resized(*size, rng.choice(first), None)
            tall, wide = rng.randint(crop[0], min(height, crop[1])), rng.randint(crop[0], min(width, crop[1]))
            top, left = rng.randint(0, height - tall), rng.randint(0, width - wide)
            window = left / width, top / height, (left + wide) / width, (top + tall) / height
            height, width = tall, wide
        height, width = resized(height, width, rng.choice(scales), longest)
        seen = {}
        for label, (x0, y0, x1, y1) in enumerate(BOXES_XYXY):
            if is_flipped:
                x0, x1 = 1 - x1, 1 - x0
            x0, x1 = (min(max((x - window[0]) / (window[2] - window[0]), 0), 1) for x in (x0, x1))
            y0, y1 = (min(max((y - window[1]) / (window[3] - window[1]), 0), 1) for y in (y0, y1))
            if x0 < x1 and y0 < y1:
                seen[label] = (x0, y0, x1, y1)
        found.append(Sample(height, width, seen))
    return found


def ks_distance(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> float:
    """Kolmogorov-Smirnov distance: the largest difference of two cumulative distributions, up to `tolerance`."""

    def below(values: np.ndarray, points: np.ndarray) -> np.ndarray:
        return np.searchsorted(np.sort(values), points, side="right") / len(values)

    points = np.concatenate([actual, expected])
    more = below(actual, points) - below(expected, points + tolerance)
    fewer = below(expected, points) - below(actual, points + tolerance)
    return max(more.max(), fewer.max())


def distances(actual: list[Sample], expected: list[Sample]) -> dict[str, float]:
    return {
        name: ks_distance(
            np.array([value(sample) for sample in actual]),
            np.array([value(sample) for sample in expected]),
            tolerance=4,
        )
        for name, value in STATISTICS.items()
    }


NUM_SAMPLES = 1000
SIMULATED = 10_000
LIMIT = 1.95 * (1 / NUM_SAMPLES + 1 / SIMULATED) ** 0.5
"""Samples of the same distribution have a larger distance with a probability of 0.001."""


@pytest.fixture(scope="module", params=IMAGES)
def samples(request: pytest.FixtureRequest) -> tuple[tuple[int, int], list[Sample]]:
    size = IMAGES[request.param]
    return size, of_the_transform(size, NUM_SAMPLES)


@pytest.mark.slow
def test_sizes_and_boxes_are_distributed_as_published(samples: Any) -> None:
    size, actual = samples
    found = distances(actual, of_the_rule(size, SIMULATED))
    assert max(found.values()) < LIMIT, found


def test_uncropped_images_have_one_of_eleven_sizes_and_all_boxes(samples: Any) -> None:
    size, actual = samples
    uncropped = [sample for sample in actual if sample.is_uncropped]
    assert 0.45 < len(uncropped) / NUM_SAMPLES < 0.57  # some crops are almost the entire image
    possible = {side: resized(*size, side, LONGEST) for side in SCALES}
    counts = dict.fromkeys(possible.values(), 0)
    for sample in uncropped:
        near = [key for key in counts if abs(key[0] - sample.height) <= 1 and abs(key[1] - sample.width) <= 1]
        if near:
            counts[near[0]] += 1
        for label, (x0, y0, x1, y1) in enumerate(BOXES_XYXY):
            expected = (1 - x1, y0, 1 - x0, y1) if sample.is_flipped else (x0, y0, x1, y1)
            assert sample.boxes_xyxy[label] == pytest.approx(expected, abs=0.02)
    assert sum(counts.values()) > 0.95 * len(uncropped)
    # All eleven scales are equally frequent, but the limit makes some of their sizes equal.
    for key, count in counts.items():
        share = list(possible.values()).count(key) / len(SCALES)
        assert count / len(uncropped) == pytest.approx(share, abs=0.05)


def test_sizes_are_within_the_limits_and_boxes_within_the_image(samples: Any) -> None:
    _, actual = samples
    for sample in actual:
        short, long = sorted((sample.height, sample.width))
        assert short in SCALES or LONGEST - 1 <= long <= LONGEST
        assert long <= LONGEST
        for x0, y0, x1, y1 in sample.boxes_xyxy.values():
            assert 0 <= x0 < x1 <= 1 + 1e-6
            assert 0 <= y0 < y1 <= 1 + 1e-6
    kept = [len(sample.boxes_xyxy) for sample in actual]
    assert min(kept) < len(BOXES_XYXY) == max(kept), "boxes outside a crop are dropped"


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
def test_another_rule_is_detected(other: dict[str, Any]) -> None:
    size = IMAGES["landscape"]
    found = distances(of_the_rule(size, NUM_SAMPLES, **other), of_the_rule(size, SIMULATED))
    assert max(found.values()) > LIMIT, found


def test_another_limit_is_detected() -> None:
    size = IMAGES["panorama"]
    found = distances(of_the_rule(size, NUM_SAMPLES, longest=1200), of_the_rule(size, SIMULATED))
    assert max(found.values()) > LIMIT, found
