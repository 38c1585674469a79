"""Datasets in Label Studio's JSON format, and in its short form JSON-MIN."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, hypot, isfinite, nan, radians, sin
from typing import Any

from tqdm import tqdm

from detr_lite.data.formats.annotation_text import to_size
from detr_lite.data.formats.box_shapes import NO_BOX, around
from detr_lite.data.formats.folder_tree import FolderTree, suffix_of
from detr_lite.data.formats.json_lists import find_json_lists
from detr_lite.data.formats.source import Source
from detr_lite.data.formats.split_builder import SplitBuilder, Xywh
from detr_lite.data.formats.values import number_of
from detr_lite.data.image_sources import SUFFIXES as IMAGE_SUFFIXES

_TASKS = re.compile(
    r'"(rectanglelabels|polygonlabels|ellipselabels|brushlabels|completed_by|was_cancelled|completions)"'
)
_SHAPES = ("rectangle", "polygon", "ellipse")

_UPLOADS = re.compile(r"^/data/upload/\d+/")
"""The server's folder of a project's files, in which no export has them."""


def find_label_studio(tree: FolderTree) -> Source | None:
    return find_json_lists(tree, "Label Studio", "shape", _TASKS, _add_tasks)


@dataclass(frozen=True)
class _Shape:
    """What one annotator drew, in percent of the image."""

    kind: str
    value: dict[str, Any]
    label: object
    number: int


def _add_tasks(builder: SplitBuilder, tasks: list[Any], path: str) -> None:
    seen: set[object] = set()
    for number, task in enumerate(tqdm(tasks, "annotations", unit="task", leave=False, disable=None), 1):
        entry = f"{path} task {number}"
        if not isinstance(task, dict):
            builder.skip("no_object", "tasks that are no JSON objects", entry, "image")
            continue
        is_short = not isinstance(task.get("data"), dict)
        name = _image_name(task if is_short else task["data"]) or _image_name(task)
        if name is None:
            builder.skip("no_name", "tasks without the path of an image", entry, "image")
            continue
        if is_short and isinstance(task.get("id"), int | str):
            if task["id"] in seen:  # one entry for each annotator
                builder.note("annotators", "of several annotations of an image the first is used", name)
                continue
            seen.add(task["id"])
        results = _short_results(task) if is_short else _chosen_results(builder, task, name)
        if results is None:
            builder.note("unlabeled_image", "images without a submitted annotation count as not labeled and are left "
                         "out", name)  # fmt: skip
            continue
        _add_image(builder, name, results)


def _add_image(builder: SplitBuilder, name: str, results: list[dict[str, Any]]) -> None:
    sizes = [(to_size(each.get("original_width")), to_size(each.get("original_height"))) for each in results]
    width, height = next((size for size in sizes if all(map(isfinite, size))), (nan, nan))
    image = builder.add_image(name, name, None, width, height)
    for shape in _shapes(results):
        entry = f"{name} shape {shape.number}"
        if shape.kind not in _SHAPES:
            builder.note("other_shape", "brush strokes, points and the like are left out", entry)
            continue
        label = builder.class_name(shape.label, entry)
        if label is None:
            continue
        box = _box_of(builder, shape, width, height, entry)
        if box is not None:
            builder.add_object(image, label, box, shape.number, is_relative=True)


def _image_name(data: dict[str, Any]) -> str | None:
    """The path of the image: under "image", or whatever key the labeling interface gives it."""
    named = [value for key, value in data.items() if key in ("image", "img") and isinstance(value, str) and value]
    texts = [value for value in data.values() if isinstance(value, str)]
    named += [text for text in texts if suffix_of(text.partition("?")[0]) in IMAGE_SUFFIXES or "?d=" in text]
    return next((_UPLOADS.sub("", name) for name in named if not name.startswith("data:")), None)


def _chosen_results(builder: SplitBuilder, task: dict[str, Any], name: str) -> list[dict[str, Any]] | None:
    """The results of the annotation marked as ground truth, or else of the first; None if none was submitted."""
    given = task.get("annotations", task.get("completions"))
    annotations = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    submitted = [each for each in annotations if not (each.get("was_cancelled") or each.get("skipped"))]
    if not submitted:
        return None
    if len(submitted) > 1:
        builder.note("annotators", "of several annotations of an image the first is used", name)
    chosen = next((each for each in submitted if each.get("ground_truth")), submitted[0])
    results = chosen.get("result")
    return [each for each in results if isinstance(each, dict)] if isinstance(results, list) else []


def _short_results(task: dict[str, Any]) -> list[dict[str, Any]]:
    """JSON-MIN has the values of the results in lists under the names of the interface's controls."""
    lists = [value for value in task.values() if isinstance(value, list)]
    values = [each for value in lists for each in value if isinstance(each, dict) and ("x" in each or "points" in each)]
    return [{**value, "value": value} for value in values]


def _shapes(results: list[dict[str, Any]]) -> Iterator[_Shape]:
    """The shapes with their labels, which may stand in another result of the same id."""
    label_of: dict[object, object] = {}
    for result in results:
        label = _label(result.get("value"))
        if label is not None and isinstance(result.get("id"), str | int):
            label_of.setdefault(result["id"], label)
    seen: set[object] = set()
    for number, result in enumerate(results, 1):
        value, id = result.get("value"), result.get("id")
        kind = _kind(value)
        if not isinstance(value, dict) or kind is None or (isinstance(id, str | int) and id in seen):
            continue
        if isinstance(id, str | int):
            seen.add(id)
        label = _label(value)
        yield _Shape(kind, value, label_of.get(id) if label is None and isinstance(id, str | int) else label, number)


def _kind(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    if "points" in value:
        return "polygon"
    if "radiusX" in value:
        return "ellipse"
    if "x" in value and "height" in value:
        return "rectangle"
    return "other" if "rle" in value or "x" in value or "sequence" in value else None


def _label(value: object) -> object:
    """The first of the labels, in a list under a key such as "rectanglelabels"."""
    if not isinstance(value, dict):
        return None
    lists = [each for key, each in value.items() if str(key).endswith(("labels", "choices")) and isinstance(each, list)]
    return next((each[0] for each in lists if each), None)


def _box_of(builder: SplitBuilder, shape: _Shape, width: float, height: float, entry: str) -> Xywh | None:
    """As shares of the image; NaN where numbers are none, None for what has been left out."""
    value = shape.value
    if shape.kind == "polygon":
        builder.note("polygon", "outlines are read as the boxes around them", entry)
        points = value["points"] if isinstance(value["points"], list) else []
        pairs = [point if isinstance(point, list) and len(point) >= 2 else (nan, nan) for point in points]
        return around([(number_of(pair[0]) / 100, number_of(pair[1]) / 100) for pair in pairs])
    keys = ("x", "y", "radiusX", "radiusY") if shape.kind == "ellipse" else ("x", "y", "width", "height")
    x, y, w, h = (number_of(value.get(key)) / 100 for key in keys)
    angle = radians(number_of(value.get("rotation", 0)))
    if not isfinite(angle):
        return NO_BOX
    if angle == 0:
        if shape.kind == "ellipse":
            builder.note("polygon", "outlines are read as the boxes around them", entry)
            return x - w, y - h, 2 * w, 2 * h
        return x, y, w, h
    if not isfinite(width) or not isfinite(height):
        builder.skip("no_size", "rotated boxes in images without original_width and original_height", entry)
        return None
    builder.note("rotated", "rotated boxes are read as the upright boxes around them", entry)
    # Angles are right in pixels only.
    across, down = (w * width * cos(angle), w * width * sin(angle)), (-h * height * sin(angle), h * height * cos(angle))
    if shape.kind == "ellipse":
        reach_x, reach_y = hypot(across[0], down[0]) / width, hypot(across[1], down[1]) / height
        return x - reach_x, y - reach_y, 2 * reach_x, 2 * reach_y
    corners = [(i * across[0] + j * down[0], i * across[1] + j * down[1]) for i in (0, 1) for j in (0, 1)]
    return around([(x + dx / width, y + dy / height) for dx, dy in corners])  # turned around the first corner
