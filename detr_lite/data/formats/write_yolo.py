"""Writes a dataset in YOLO format, as Ultralytics reads it."""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import yaml
from jaxtyping import Bool, Float64
from PIL import Image
from tqdm import tqdm

from detr_lite.data.editing.edits import align_categories, unique_names
from detr_lite.data.formats.new_dataset import Placing, Written, place_images
from detr_lite.data.records import RawSplit

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
"""Other files in an image folder are not taken for images by programs that read this format."""

DECIMALS = 8
"""Of relative coordinates: 6, as is usual, move a corner by up to 0.004 pixels in an image of 4,000."""


def write_yolo(splits: Mapping[str, RawSplit], folder: Path, placing: Placing = "link") -> Written:
    """Write checked splits as `data.yaml`, `images/{split}` and `labels/{split}`.

    The format knows classes 0, 1, ... in the order of `data.yaml`, boxes inside the image, and no crowd regions: boxes
    are clipped, and crowd regions left out and counted, as are boxes without an area
    inside their images.
    """
    written = Written()
    aligned = align_categories(splits)
    for name, split in aligned.items():
        names = yolo_names(split)
        boxes_cxcywh, is_inside = _relative_boxes(split)
        kept = is_inside & ~split.is_crowd
        _write_labels(split.keep_annotations(kept), boxes_cxcywh[kept], names, folder / "labels" / name)
        place_images(split, names, folder / "images" / name, placing, written)
        written.objects += int(kept.sum())
        for what, is_lost in (
            ("crowd regions", split.is_crowd),
            ("boxes without an area inside their images", ~is_inside & ~split.is_crowd),
        ):
            if is_lost.any():
                written.notes.append(f"{name}: {what} are left out: {int(is_lost.sum()):,}")
    categories = next(iter(aligned.values())).categories
    content: dict[str, Any] = {name: f"images/{name}" for name in aligned}
    # Without "path", which Ultralytics would take relative to the folder of its own settings.
    content["names"] = {label: category.name for label, category in enumerate(categories)}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return written


def yolo_names(split: RawSplit) -> list[str]:
    """File names of the images under `images/{split}`; no two share a label file.

    The label file of an image is found by putting "labels" for the last "images" in its path, so that no other folder
    may be called that.
    """
    names = []
    for name, file in zip(split.names, split.paths, strict=True):
        path = PurePath(name)
        path = PurePath(*(f"{part}_" if part == "images" else part for part in path.parts[:-1]), path.name)
        names.append((path if path.suffix.lower() in SUFFIXES else _with_true_suffix(path, file)).as_posix())
    return unique_names(names, ignore_suffix=True)


def _with_true_suffix(path: PurePath, file: str) -> PurePath:
    with Image.open(file) as image:
        return path.with_name(f"{path.name}.{(image.format or 'png').lower()}")


def _relative_boxes(split: RawSplit) -> tuple[Float64[np.ndarray, "annotation 4"], Bool[np.ndarray, " annotation"]]:
    """Clipped boxes (cx, cy, w, h) relative to their images, and which of them have an area."""
    sizes = split.sizes_wh[split.image_index]
    low = split.boxes_xywh[:, :2].clip(0, sizes)
    high = (split.boxes_xywh[:, :2] + split.boxes_xywh[:, 2:]).clip(0, sizes)
    is_inside = (high > low).all(axis=1)
    return np.concatenate([(low + high) / 2 / sizes, (high - low) / sizes], axis=1), is_inside


def _write_labels(
    split: RawSplit, boxes_cxcywh: Float64[np.ndarray, "annotation 4"], names: list[str], folder: Path
) -> None:
    """One text file for each image, empty where it has no objects."""
    number = f"%.{DECIMALS}f"
    lines = [
        f"{label} {number % cx} {number % cy} {number % w} {number % h}\n"
        for label, (cx, cy, w, h) in zip(split.labels.tolist(), boxes_cxcywh.tolist(), strict=True)
    ]
    order = np.argsort(split.image_index, kind="stable")
    ends = np.searchsorted(split.image_index[order], np.arange(len(names) + 1))
    places = order.tolist()
    for image, name in enumerate(tqdm(names, desc="labels", unit="image", leave=False, disable=None)):
        file = (folder / name).with_suffix(".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(lines[place] for place in places[ends[image] : ends[image + 1]]), encoding="utf-8")
