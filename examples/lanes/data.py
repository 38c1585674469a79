"""What the network gets: pictures cut to the road, and lanes at its rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from detr_lite.errors import DetrLiteError
from detr_lite.structures import Batch
from detr_lite.text import reason_of
from examples.lanes.tusimple import Labeled

INPUT = (320, 144)
"""(width, height) of the pictures that the network gets."""
CROP = 0.2
"""Share of the height that is cut off at the top, which is sky; TuSimple's lanes begin at 0.22."""
POINTS = 36
"""Rows at which the network predicts x, in the middles of as many strips of the picture."""


@dataclass(frozen=True)
class RoadSample:
    """What the network gets and what it should answer, both relative to the picture that it sees."""

    image: UInt8[np.ndarray, "height width 3"]
    xs: Float[np.ndarray, "lane point"]
    """x at the `POINTS` rows from top to bottom, continued straight beyond the lane's ends."""
    is_seen: Bool[np.ndarray, "lane point"]


@dataclass(frozen=True)
class RoadBatch:
    """Samples of which lanes are padded to the largest number, at least one."""

    images: Batch
    xs: Float[Tensor, "batch lane point"]
    is_seen: Bool[Tensor, "batch lane point"]
    counts: tuple[int, ...]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "RoadBatch":
        xs, is_seen = (each.to(device, non_blocking=non_blocking) for each in (self.xs, self.is_seen))
        return RoadBatch(self.images.to(device), xs, is_seen, self.counts)


def point_rows() -> Float[np.ndarray, " point"]:
    """y of the points, from 0 at the top of the cut picture to 1 at its bottom."""
    return (np.arange(POINTS) + 0.5) / POINTS


class RoadSamples:
    """The samples of a split, read from their files again each time."""

    def __init__(self, labeled: Sequence[Labeled]) -> None:
        self.labeled = labeled

    def __len__(self) -> int:
        return len(self.labeled)

    def __getitem__(self, index: int, /) -> RoadSample:
        label = self.labeled[index]
        image, size = load_picture(label.path)
        return RoadSample(image, *points_of(label, size))


def load_picture(path: Path) -> tuple[UInt8[np.ndarray, "height width 3"], tuple[int, int]]:
    """The part of a picture that the network sees, in its size, and the picture's own (width, height)."""
    try:
        with Image.open(path) as image:
            size = image.size
            image.draft("RGB", (2 * INPUT[0], 2 * INPUT[1]))  # a JPEG is decoded smaller
            box = (0, CROP * image.height, image.width, image.height)
            resized = image.convert("RGB").resize(INPUT, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    except OSError as error:
        raise DetrLiteError(f"{path}: cannot be read ({reason_of(error)})") from error
    return np.asarray(resized), size


def points_of(
    label: Labeled, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "kept point"], Bool[np.ndarray, "kept point"]]:
    """Lanes at the rows of the network, and where they are seen; without those that are seen in fewer than two.

    Args:
        size: (width, height) of the picture.
    """
    lanes, rows = label.lanes / size[0], (label.rows / size[1] - CROP) / (1 - CROP)
    at = point_rows()
    kept, seen = [], []
    for lane in lanes:
        known = np.isfinite(lane)
        if known.sum() < 2:
            continue
        y, x = rows[known], lane[known]
        inside = (at >= y[0] - 0.5 / POINTS) & (at <= y[-1] + 0.5 / POINTS)
        if inside.sum() < 2:
            continue
        third = max(2, len(y) // 3)
        slopes = [np.polyfit(y[part], x[part], 1)[0] for part in (slice(third), slice(-third, None))]
        straight = np.interp(at, y, x)
        straight += np.where(at < y[0], (at - y[0]) * slopes[0], 0) + np.where(at > y[-1], (at - y[-1]) * slopes[1], 0)
        kept.append(straight)
        seen.append(inside)
    shape = (-1, POINTS)
    return np.array(kept).reshape(shape).astype(np.float32), np.array(seen, dtype=bool).reshape(shape)


def augment(sample: RoadSample, seed: int) -> RoadSample:
    """Mirror half of the samples, shift them to a side, and change brightness and contrast."""
    random = np.random.default_rng(seed)
    image, xs = sample.image, sample.xs
    if random.random() < 0.5:
        image, xs = image[:, ::-1], 1 - xs
    shift = int(random.integers(-32, 33))
    image = np.roll(image, shift, axis=1)
    width = image.shape[1]
    if shift > 0:
        image[:, :shift] = image[:, shift : shift + 1]
    elif shift < 0:
        image[:, shift:] = image[:, shift - 1 : shift]
    xs = xs + np.float32(shift / width)
    low, high = max(shift, 0) / width, 1 + min(shift, 0) / width
    is_seen = sample.is_seen & (xs >= low) & (xs <= high)
    changed = (image - 128.0) * random.uniform(0.7, 1.3) + 128 + random.uniform(-30, 30)
    keeps = is_seen.sum(1) >= 2
    return RoadSample(changed.clip(0, 255).astype(np.uint8), xs[keeps], is_seen[keeps])


def collate(samples: Sequence[RoadSample]) -> RoadBatch:
    lanes = max(1, *(len(sample.xs) for sample in samples)) if samples else 1
    xs = torch.full((len(samples), lanes, POINTS), 0.5)
    is_seen = torch.zeros(len(samples), lanes, POINTS, dtype=torch.bool)
    for place, sample in enumerate(samples):
        xs[place, : len(sample.xs)] = torch.from_numpy(sample.xs)
        is_seen[place, : len(sample.xs)] = torch.from_numpy(sample.is_seen)
    pixels = torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2)
    images = pixels.float() / 64 - 2  # about -2 to 2
    is_padding = torch.zeros(len(samples), *images.shape[2:], dtype=torch.bool)
    return RoadBatch(Batch(images, is_padding), xs, is_seen, tuple(len(sample.xs) for sample in samples))
