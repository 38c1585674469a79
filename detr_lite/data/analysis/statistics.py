"""Counts of a split's images, objects and classes, and how large its boxes are."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from detr_lite.data.records import Split
from detr_lite.text import printable

PERCENTILES = {"min": 0, "5%": 5, "25%": 25, "median": 50, "75%": 75, "95%": 95, "max": 100}

AREA_ENDS = (32.0**2, 96.0**2)
"""Area in pixels below which COCO calls an object small, and below which medium."""


@dataclass(frozen=True)
class ClassCount:
    """How often one class occurs."""

    name: str
    objects: int
    images: int
    """With at least one such object."""


@dataclass(frozen=True)
class ImageSizes:
    """Widths and heights of a split's images, in pixels; all 0 without images."""

    distinct: int
    """How many different (width, height) there are."""
    most_common: tuple[int, int]
    """(width, height)."""
    images_of_most_common: int
    smallest: tuple[int, int]
    """(width, height) of the image with the fewest pixels."""
    largest: tuple[int, int]


@dataclass(frozen=True)
class SplitStatistics:
    """Of the objects to train on: without crowd regions, boxes clipped to their image.

    Percentiles are by the names of `PERCENTILES`, and empty where there is no object.
    """

    split: str
    format: str
    images: int
    empty_images: int
    """Without an object to train on."""
    objects: int
    crowd_regions: int
    classes: tuple[ClassCount, ...]
    """In the order of the labels."""
    small: int
    """Objects whose area COCO's metrics call small: below 32 x 32 pixels of the original image."""
    medium: int
    """Below 96 x 96 pixels."""
    large: int
    box_sizes: dict[str, float]
    """Percentiles of the square root of the boxes' areas, in pixels."""
    relative_box_sizes: dict[str, float]
    """Percentiles of the square root of the boxes' share of their image's area."""
    aspect_ratios: dict[str, float]
    """Percentiles of width / height."""
    objects_per_image: dict[str, float]
    """Percentiles over all images, also those without objects."""
    mean_objects_per_image: float
    image_sizes: ImageSizes

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def table(self, max_classes: int = 50) -> list[str]:
        """Aligned lines of text, with the most frequent classes first."""
        return [*self._facts(), "", *self._distributions(), "", *self._class_lines(max_classes)]

    def _facts(self) -> list[str]:
        sizes, total = self.image_sizes, max(1, self.objects)
        areas = {"small": self.small, "medium": self.medium, "large": self.large}
        shares = ", ".join(f"{name} {count:,} ({count / total:.0%})" for name, count in areas.items())
        size = f"{_shown_size(sizes.most_common)} in {sizes.images_of_most_common:,} of {self.images:,}"
        if sizes.distinct > 1:
            between = f"{_shown_size(sizes.smallest)} to {_shown_size(sizes.largest)}"
            size += f"; {sizes.distinct:,} different sizes from {between}"
        facts = {
            "split": f"{self.split} ({self.format})",
            "images": f"{self.images:,}, of which {self.empty_images:,} without objects",
            "image size": size,
            "objects": f"{self.objects:,} of {len(self.classes):,} classes",
            "crowd regions": f"{self.crowd_regions:,}",
            "areas as in COCO": shares,
            "objects per image": f"{self.mean_objects_per_image:.1f} on average",
        }
        return _aligned([[name, value] for name, value in facts.items()], right=False)

    def _distributions(self) -> list[str]:
        rows = {
            "box size (pixels)": (self.box_sizes, ".0f"),
            "box size / image size": (self.relative_box_sizes, ".3f"),
            "width / height": (self.aspect_ratios, ".2f"),
            "objects per image": (self.objects_per_image, ".0f"),
        }
        lines = [["", *PERCENTILES]]
        for name, (values, form) in rows.items():
            lines.append([name, *(format(values[key], form) if values else "-" for key in PERCENTILES)])
        return _aligned(lines)

    def _class_lines(self, max_classes: int) -> list[str]:
        ranked = sorted(self.classes, key=lambda each: -each.objects)
        lines = [["class", "objects", "share", "images"]]
        for each in ranked[:max_classes]:
            share = f"{each.objects / max(1, self.objects):.1%}"
            lines.append([printable(each.name), f"{each.objects:,}", share, f"{each.images:,}"])
        rest = ranked[max_classes:]
        more = [f"and {len(rest):,} more classes with {sum(each.objects for each in rest):,} objects"] if rest else []
        return _aligned(lines) + more


def split_statistics(split: Split) -> SplitStatistics:
    """The statistics of a split, which may be empty."""
    records, truth = split.images, split.ground_truth
    sizes_wh = records.sizes_wh.astype(np.float64)
    image_index = np.repeat(np.arange(len(records)), records.counts)
    boxes_wh = (records.boxes_xyxy[:, 2:] - records.boxes_xyxy[:, :2]).astype(np.float64)
    box_sizes = np.sqrt(boxes_wh.prod(axis=1))
    image_roots = np.sqrt(sizes_wh.prod(axis=1))
    small, medium, large = _count_by_area(truth.areas[~truth.is_crowd])
    return SplitStatistics(
        split=split.name,
        format=split.format,
        images=len(records),
        empty_images=int((records.counts == 0).sum()),
        objects=len(records.labels),
        crowd_regions=int(truth.is_crowd.sum()),
        classes=_count_classes([category.name for category in split.categories], records.labels, image_index),
        small=small,
        medium=medium,
        large=large,
        box_sizes=_percentiles(box_sizes),
        relative_box_sizes=_percentiles(box_sizes / image_roots[image_index]),
        aspect_ratios=_percentiles(boxes_wh[:, 0] / boxes_wh[:, 1]),
        objects_per_image=_percentiles(records.counts.astype(np.float64)),
        mean_objects_per_image=len(records.labels) / max(1, len(records)),
        image_sizes=_image_sizes(records.sizes_wh.astype(np.int64)),
    )


def _count_classes(
    names: Sequence[str], labels: Int64[np.ndarray, " object"], image_index: Int64[np.ndarray, " object"]
) -> tuple[ClassCount, ...]:
    objects = np.bincount(labels, minlength=len(names))
    pairs = np.unique(image_index * len(names) + labels)  # each class of each image once
    images = np.bincount(pairs % max(1, len(names)), minlength=len(names))
    return tuple(map(ClassCount, names, objects.tolist(), images.tolist()))


def _count_by_area(areas: Float[np.ndarray, " object"]) -> tuple[int, int, int]:
    ends = np.searchsorted(np.sort(areas), AREA_ENDS).tolist()
    return ends[0], ends[1] - ends[0], len(areas) - ends[1]


def _percentiles(values: Float[np.ndarray, " value"]) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.percentile(values, list(PERCENTILES.values())).tolist()
    return dict(zip(PERCENTILES, found, strict=True))


def _image_sizes(sizes_wh: Int64[np.ndarray, "image 2"]) -> ImageSizes:
    if not len(sizes_wh):
        return ImageSizes(0, (0, 0), 0, (0, 0), (0, 0))
    keys, counts = np.unique(sizes_wh[:, 0] << 32 | sizes_wh[:, 1], return_counts=True)
    distinct = np.stack([keys >> 32, keys & 0xFFFFFFFF], axis=1)
    pixels = distinct.prod(axis=1)

    def size(place: Any) -> tuple[int, int]:
        width, height = distinct[place].tolist()
        return width, height

    most = counts.argmax()
    return ImageSizes(len(distinct), size(most), int(counts[most]), size(pixels.argmin()), size(pixels.argmax()))


def _shown_size(size_wh: tuple[int, int]) -> str:
    return f"{size_wh[0]:,} x {size_wh[1]:,}"


def _aligned(rows: Sequence[Sequence[str]], right: bool = True) -> list[str]:
    """The first column to the left, the others to the right or left, two spaces between."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [
            cell.rjust(width) if right else cell.ljust(width) for cell, width in zip(others, widths[1:], strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
