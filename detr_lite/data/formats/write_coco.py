"""Writes a dataset in COCO format."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detr_lite.data.editing.edits import align_categories, unique_names
from detr_lite.data.formats.new_dataset import Placing, Written, place_images
from detr_lite.data.records import RawSplit


def write_coco(splits: Mapping[str, RawSplit], folder: Path, placing: Placing = "link") -> Written:
    """Write checked splits as `annotations/instances_{split}.json`, and their images into `{split}/`.

    All files list the same classes. Image ids that are not numbers, or not unique, become numbers from 1.
    """
    written = Written()
    for name, split in align_categories(splits).items():
        names = unique_names(split.names)
        content = coco_content(split, names)
        (folder / "annotations").mkdir(parents=True, exist_ok=True)
        (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(content, allow_nan=False))
        place_images(split, names, folder / name, placing, written)
        written.objects += int((~split.is_crowd).sum())
        if [image["id"] for image in content["images"]] != split.image_ids:
            written.notes.append(f"{name}: image ids that are not unique numbers were replaced by numbers from 1")
    return written


def coco_content(split: RawSplit, names: list[str]) -> dict[str, Any]:
    """The content of an annotation file; `names` has the `file_name` of each image."""
    ids = _image_ids(split)
    category_ids = [category.id for category in split.categories]
    objects = zip(
        split.image_index.tolist(),
        split.labels.tolist(),
        split.boxes_xywh.tolist(),
        split.areas.tolist(),
        split.is_crowd.tolist(),
        strict=True,
    )
    return {
        "images": [
            {"id": id, "file_name": name, "width": int(width), "height": int(height)}
            for id, name, (width, height) in zip(ids, names, split.sizes_wh.tolist(), strict=True)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": ids[image],
                "category_id": category_ids[label],
                "bbox": box,
                "area": area,
                "iscrowd": int(is_crowd),
            }
            for number, (image, label, box, area, is_crowd) in enumerate(objects, start=1)
        ],
        "categories": [{"id": category.id, "name": category.name} for category in split.categories],
    }


def _image_ids(split: RawSplit) -> list[int]:
    ids = [id for id in split.image_ids if isinstance(id, int)]
    if len({*ids}) == len(split.image_ids):
        return ids
    return list(range(1, len(split.image_ids) + 1))
