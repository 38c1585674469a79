"""Datasets in LabelMe's format: a JSON file for each image."""

import re
from collections.abc import Sequence
from math import hypot, nan
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detr_lite.data.formats.annotation_text import read_head, to_size
from detr_lite.data.formats.box_shapes import around, around_ellipse
from detr_lite.data.formats.folder_tree import FolderTree, common_folder, folder_of, group_by_split
from detr_lite.data.formats.json_file import read_json
from detr_lite.data.formats.paired_images import ImageFinder
from detr_lite.data.formats.source import Source
from detr_lite.data.formats.split_builder import SplitBuilder, Xywh, reader_of
from detr_lite.data.formats.values import number_of
from detr_lite.errors import DetrLiteError

_SHAPES = re.compile(r'"shapes"\s*:\s*\[')
_HEADS = 20


def find_labelme(tree: FolderTree) -> Source | None:
    paths = sorted(tree.files(".json"))
    sample = paths[:: max(1, len(paths) // _HEADS)]
    if not any(_SHAPES.search(read_head(tree.root / path)) for path in sample):
        return None
    splits = group_by_split(paths, with_file_name=False)
    images = ImageFinder(tree, paths)

    def files(split: str) -> list[Path]:
        """The classes are those of all splits, so that all files matter."""
        used = [path for group in splits.values() for path in group]
        return [tree.root / path for path in (*sorted({folder_of(path) for path in used}), *used)]

    sources = {split: common_folder(tree.root, group) for split, group in splits.items()}
    read = reader_of(splits, lambda split: _parse(tree, splits[split], images))
    return Source(tree.root, "LabelMe", sources, read, files)


def _parse(tree: FolderTree, paths: Sequence[str], images: ImageFinder) -> SplitBuilder:
    found = {path: images.find(path) for path in paths}
    used = {image for image in found.values() if image is not None}
    builder = SplitBuilder(tree.root, "shape", images.folders(used) or [tree.root])
    for path in tqdm(paths, "annotations", unit="file", leave=False, disable=None):
        try:
            content = read_json(tree.root / path, path)
        except DetrLiteError as error:
            builder.skip("bad_file", "images whose annotation file cannot be read", str(error), "image")
            continue
        if isinstance(content, dict) and isinstance(content.get("shapes"), list):
            _add_image(builder, content, path, found[path], tree.root)
        else:
            builder.note("other_file", 'JSON files without "shapes" are not read', path)
    images.note_unlabeled(builder, used)
    return builder


def _add_image(builder: SplitBuilder, content: dict[str, Any], path: str, image: str | None, root: Path) -> None:
    """`imagePath` is often that of another machine, so that the image of the file's own name comes first."""
    named = content.get("imagePath")
    name = image or (named.strip() if isinstance(named, str) and named.strip() else f"{path.removesuffix('.json')}.jpg")
    width, height = to_size(content.get("imageWidth")), to_size(content.get("imageHeight"))
    place = builder.add_image(name, path, None if image is None else str(root / image), width, height)
    for number, shape in enumerate(content["shapes"], 1):
        entry = f"{path} shape {number}"
        if not isinstance(shape, dict):
            builder.skip("no_object", "shapes that are no JSON objects", entry)
            continue
        label = builder.class_name(shape.get("label"), entry)
        box = None if label is None else _box_of(builder, shape, entry)
        if label is not None and box is not None:
            builder.add_object(place, label, box, number)


def _box_of(builder: SplitBuilder, shape: dict[str, Any], entry: str) -> Xywh | None:
    """The box of a shape; NaN where its numbers are none, None for a shape that has no box."""
    kind = shape.get("shape_type") or "polygon"
    points = _points(shape.get("points"))
    if kind == "point" or (kind == "polygon" and len(points) == 1):
        builder.note("other_shape", "points have no box and are left out", entry)
        return None
    if kind == "circle" and len(points) == 2:
        (x, y), (edge_x, edge_y) = points
        radius = hypot(edge_x - x, edge_y - y)
        builder.note("polygon", "outlines are read as the boxes around them", entry)
        return around_ellipse(x, y, radius, radius)
    if kind not in ("rectangle", "mask"):
        builder.note("polygon", "outlines are read as the boxes around them", entry)
    return around(points)


def _points(points: object) -> list[tuple[float, float]]:
    """NaN for what is no pair of numbers."""
    if not isinstance(points, list):
        return []
    pairs = [point if isinstance(point, list) and len(point) >= 2 else (nan, nan) for point in points]
    return [(number_of(pair[0]), number_of(pair[1])) for pair in pairs]
