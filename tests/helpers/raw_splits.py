"""Splits made of arrays, without any file: as a format's reader would return them, and as the checks leave them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from detr_lite.data.records import RawSplit, Split, make_split
from detr_lite.data.report import SplitReport
from detr_lite.structures import Category

Row = tuple[int, int, float, float, float, float]
"""(image, label, x, y, width, height)."""


def raw_split(
    rows: Sequence[Row],
    sizes_wh: Sequence[tuple[int, int]] = ((640, 480),),
    classes: Sequence[str] = ("cell", "bolt", "tree"),
    areas: Sequence[float] | None = None,
    crowd: Sequence[int] = (),
) -> RawSplit:
    """A split of these annotations. Areas are those of the boxes unless given; `crowd` are places in `rows`."""
    columns = np.array(rows, dtype=np.float64).reshape(-1, 6)
    boxes_xywh = columns[:, 2:].copy()
    is_crowd = np.zeros(len(columns), dtype=bool)
    is_crowd[list(crowd)] = True
    return RawSplit(
        categories=tuple(Category(10 * (label + 1), name) for label, name in enumerate(classes)),
        image_ids=[100 + image for image in range(len(sizes_wh))],
        names=[f"{image:03}.jpg" for image in range(len(sizes_wh))],
        paths=[f"train/{image:03}.jpg" for image in range(len(sizes_wh))],
        sizes_wh=np.array(sizes_wh, dtype=np.float64).reshape(-1, 2),
        image_index=columns[:, 0].astype(np.int64),
        labels=columns[:, 1].astype(np.int64),
        boxes_xywh=boxes_xywh,
        areas=boxes_xywh[:, 2:].prod(axis=1) if areas is None else np.array(areas, dtype=np.float64),
        is_crowd=is_crowd,
        origin=np.arange(len(columns)),
        name_annotation=lambda origin: f"annotation {origin}",
    )


def random_raw_split(
    seed: int, images: int = 30, classes: int = 3, per_image: float = 4.0, crowd_share: float = 0.05
) -> RawSplit:
    """A sound split: images of several sizes, boxes of any size and place inside them, some of them crowd regions."""
    generator = np.random.default_rng(seed)
    sizes_wh = generator.integers(200, 1000, size=(images, 2))
    counts = generator.poisson(per_image, size=images)
    image_index = np.repeat(np.arange(images), counts)
    limits = sizes_wh[image_index].astype(np.float64)
    boxes_wh = limits * generator.uniform(0.02, 0.6, size=limits.shape)
    low = (limits - boxes_wh) * generator.uniform(size=limits.shape)
    rows = np.concatenate(
        [image_index[:, None], generator.integers(classes, size=(len(limits), 1)), low, boxes_wh], axis=1
    )
    crowd = np.flatnonzero(generator.uniform(size=len(rows)) < crowd_share)
    sizes = [(int(width), int(height)) for width, height in sizes_wh]
    return raw_split([tuple(row) for row in rows], sizes, [f"class {label}" for label in range(classes)], None, crowd)


def report_of(raw: RawSplit) -> SplitReport:
    """A report in which nothing has been found yet."""
    report = SplitReport("annotations.json")
    report.totals["image"], report.totals["annotation"] = len(raw.paths), len(raw.labels)
    return report


def split_of(raw: RawSplit) -> Split:
    """The split of a sound raw one."""
    return make_split(Path("data"), "train", Path("annotations.json"), "COCO", raw, report_of(raw))


def reorder(raw: RawSplit, order: Int64[np.ndarray, " annotation"]) -> RawSplit:
    """The same annotations in another order."""
    columns = ("image_index", "labels", "boxes_xywh", "areas", "is_crowd", "origin")
    return replace(raw, **{column: getattr(raw, column)[order] for column in columns})
