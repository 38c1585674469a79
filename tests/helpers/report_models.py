"""A split of drawn images with names that try to become markup, and detections with errors of every kind."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from detr_lite.data.records import RawSplit, Split, make_split
from detr_lite.data.report import SplitReport
from detr_lite.evaluation.analysis import analyze
from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.structures import Category, DetectionArrays
from detr_lite.viz.report.content import Evaluated

NASTY = "</script><img src=x onerror=window.hurt=1>"
SIDE = 120
IMAGES = 12
NAMES = ("plate", NASTY, "spoon")


def drawn_split(folder: Path, images: int = IMAGES, unused: Sequence[str] = ()) -> Split:
    """Two objects in each image, a plate above and one of the other classes below; `unused` are classes before them."""
    (folder / "val").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f"frame_{number:03}.png" for number in range(images - 1)] + [f"{NASTY.replace('/', '')}.png"]
    for name in names:
        pixels = rng.integers(60, 90, (SIDE, SIDE, 3), dtype=np.uint8)
        pixels[10:50, 10:60], pixels[70:100, 30:80] = (230, 60, 50), (50, 90, 255)
        Image.fromarray(pixels).save(folder / "val" / name)
    boxes = np.tile([[10.0, 10, 50, 40], [30.0, 70, 50, 30]], (images, 1))
    raw = RawSplit(
        categories=tuple(Category(number, name) for number, name in enumerate((*unused, *NAMES), start=1)),
        image_ids=list(range(100, 100 + images)),
        names=names,
        paths=[str(folder / "val" / name) for name in names],
        sizes_wh=np.full((images, 2), float(SIDE)),
        image_index=np.arange(images).repeat(2),
        labels=len(unused) + np.ravel(np.column_stack([np.zeros(images, dtype=np.int64), 1 + np.arange(images) % 2])),
        boxes_xywh=boxes,
        areas=boxes[:, 2:].prod(axis=1),
        is_crowd=np.zeros(2 * images, dtype=bool),
        origin=np.arange(2 * images),
        name_annotation=lambda origin: f"annotation {origin + 1}",
    )
    return make_split(folder, "val", folder / "val.json", "COCO", raw, SplitReport("val.json"))


def flawed_detections(split: Split) -> DetectionArrays:
    """In image 0 a duplicate, in 1 a wrong class, in 2 a badly placed box, in 3 one on the background, in 4 one of a
    wrong class and badly placed, in 5 a missed object, in 6 nothing at all; all others are right."""
    truth = split.ground_truth
    rows: list[tuple[int, int, list[float], float]] = []
    for object in range(len(truth.labels)):
        image, label, box = int(truth.image_index[object]), int(truth.labels[object]), truth.boxes_xywh[object].tolist()
        x, y, width, height = box
        is_first = object % 2 == 0
        if image == 6 or (image == 5 and is_first):
            continue
        if image == 0 and is_first:
            rows.append((image, label, [x + 2, y, width, height], 0.95))
        if image == 1 and is_first:
            label = 2
        if image in (2, 4) and is_first:
            box = [x + 20, y + 8, width, height]
            label = label if image == 2 else 2
        if image == 3 and is_first:
            rows.append((image, 2, [90.0, 5, 20, 20], 0.94))
        rows.append((image, label, box, 0.99 if object == 0 else 0.9 + 0.001 * (object % 7)))
    return DetectionArrays(
        image_index=np.array([row[0] for row in rows]),
        labels=np.array([row[1] for row in rows]),
        boxes_xywh=np.array([row[2] for row in rows], dtype=np.float64),
        scores=np.array([row[3] for row in rows]),
    )


def evaluated(split: Split, detections: DetectionArrays, name: str = NASTY) -> Evaluated:
    truth = split.ground_truth
    evaluation = evaluate_detections(truth, detections, split.categories)
    return Evaluated(name, split, detections, evaluation, analyze(truth, detections, split.categories))
