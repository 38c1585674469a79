"""The files that an evaluation writes."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from detr_lite.evaluation.coco_map import CocoEvaluation, iou_name
from detr_lite.io import atomic_write
from detr_lite.structures import Category, DetectionArrays
from detr_lite.text import spreadsheet_text

_CHUNK = 100_000
"""Detections whose text is in memory at the same time."""


def write_detections(
    path: Path, detections: DetectionArrays, image_ids: Sequence[int | str], categories: Sequence[Category]
) -> None:
    """A file in COCO's results format.

    Args:
        image_ids: the dataset's own, by index.
        categories: by label; the file has their ids.
    """
    atomic_write(path, lambda file: _write_rows(file, detections, image_ids, categories))


def write_per_class_csv(path: Path, evaluation: CocoEvaluation) -> None:
    """One row per category; -1 where a category has no objects. Names are those of `spreadsheet_text`."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    header = ("category_id", "category", "objects", "AP", "AP50", "AR100")
    writer.writerow((*header, *map(iou_name, evaluation.ious)))
    for result in evaluation.per_class:
        category = result.category
        numbers = (result.AP, result.AP50, result.AR100, *result.AP_at_iou)
        writer.writerow((category.id, spreadsheet_text(category.name), result.objects, *numbers))
    atomic_write(path, lambda file: file.write(text.getvalue().encode()))


def _write_rows(
    file: IO[bytes], detections: DetectionArrays, image_ids: Sequence[int | str], categories: Sequence[Category]
) -> None:
    file.write(b"[")
    for start in range(0, len(detections.scores), _CHUNK):
        part = detections.select(slice(start, start + _CHUNK))
        file.write((b"\n" if start == 0 else b",\n") + ",\n".join(_rows(part, image_ids, categories)).encode())
    file.write(b"\n]\n" if len(detections.scores) else b"]\n")


def _rows(detections: DetectionArrays, image_ids: Sequence[int | str], categories: Sequence[Category]) -> Iterator[str]:
    """The entries in JSON; numbers as Python writes them, which reads back as the same bits."""
    used = {index: json.dumps(image_ids[index]) for index in np.unique(detections.image_index).tolist()}
    ids = [category.id for category in categories]
    columns = (detections.image_index, detections.labels, *detections.boxes_xywh.T, detections.scores)
    for image, label, x, y, width, height, score in zip(*(column.tolist() for column in columns), strict=True):
        yield (
            f'{{"image_id": {used[image]}, "category_id": {ids[label]}, "bbox": [{x}, {y}, {width}, {height}], '
            f'"score": {score}}}'
        )
