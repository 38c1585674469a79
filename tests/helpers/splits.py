"""Splits of a dataset without any file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detr_lite.data.records import RawSplit, Split, make_split
from detr_lite.data.report import SplitReport
from detr_lite.structures import Category


def split_of(
    sizes_wh: Sequence[tuple[int, int]],
    boxes_xyxy: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    categories: Sequence[Category],
    name: str = "train",
) -> Split:
    """Images 0.png, 1.png ... with boxes (object 4) in pixels and labels (object) each; their ids count from 1."""
    count = len(sizes_wh)
    image_index = np.repeat(np.arange(count), [len(each) for each in labels]).astype(np.int64)
    corners = np.concatenate([np.zeros((0, 4)), *boxes_xyxy]).astype(np.float64)
    boxes_xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    raw = RawSplit(
        categories=tuple(categories),
        image_ids=list(range(1, count + 1)),
        names=[f"{index}.png" for index in range(count)],
        paths=[f"{index}.png" for index in range(count)],
        sizes_wh=np.array(sizes_wh, dtype=np.float64).reshape(-1, 2),
        image_index=image_index,
        labels=np.concatenate([np.zeros(0), *labels]).astype(np.int64),
        boxes_xywh=boxes_xywh,
        areas=boxes_xywh[:, 2:].prod(axis=1),
        is_crowd=np.zeros(len(corners), dtype=bool),
        origin=np.arange(len(corners)),
        name_annotation=lambda origin: f"annotation {origin + 1}",
    )
    return make_split(Path("somewhere"), name, Path(f"{name}.json"), "COCO", raw, SplitReport(f"{name}.json"))
