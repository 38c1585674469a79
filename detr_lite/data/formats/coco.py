"""Datasets in COCO format."""

from pathlib import Path

import numpy as np

from detr_lite.data.annotations import check_images, read_categories, read_content, read_objects
from detr_lite.data.formats.source import Source
from detr_lite.data.layouts import drop_placeholder, find_annotation_file, find_images, layouts_of
from detr_lite.data.records import RawSplit
from detr_lite.data.report import SplitReport


def find_coco(root: Path) -> Source | None:
    names = {split: find_annotation_file(root, split) for split in ("train", "val", "test")}
    splits = {split: root / name for split, name in names.items() if name is not None}
    if not splits:
        return None
    return Source(
        root, "COCO", splits, lambda split, report: read_coco(root, split, report), lambda split: [splits[split]]
    )


def read_coco(root: Path, split: str, report: SplitReport) -> RawSplit:
    name = find_annotation_file(root, split)
    assert name is not None
    content = read_content(root / name, name)
    for note in drop_placeholder(content, root, name):
        report.note("placeholder", note)
    categories = read_categories(content, name)
    check_images(content, name)
    objects = read_objects(content, name, categories)
    paths = find_images(content, name, root / layouts_of(split)[name])
    ids = [annotation["id"] for annotation in content["annotations"]]
    report.totals["image"], report.totals["annotation"] = len(paths), len(ids)
    return RawSplit(
        categories,
        [image["id"] for image in content["images"]],
        [image["file_name"] for image in content["images"]],
        [str(path) for path in paths],
        np.array([(image["width"], image["height"]) for image in content["images"]], dtype=np.float64).reshape(-1, 2),
        objects.image_index,
        objects.labels,
        objects.boxes_xywh,
        np.array([annotation["area"] for annotation in content["annotations"]], dtype=np.float64),
        objects.is_crowd,
        np.arange(len(ids)),
        lambda origin: f"annotation {ids[origin]}",
    )
