"""Images of a split as pictures of a page, and the boxes of its objects."""

import numpy as np
from jaxtyping import Float64

from detr_lite.data.records import Split
from detr_lite.text import printable, shorten_middle
from detr_lite.viz.pages.pictures import Mark, View

NAME_LENGTH = 48
"""Characters of a class's name that a page shows: longer ones would push everything else out of its tables."""


def class_names(split: Split) -> list[str]:
    """By label, as a page shows them; a class without a name has its id."""
    names = [printable(category.name).strip() or f"(id {category.id})" for category in split.categories]
    return [shorten_middle(name, NAME_LENGTH) for name in names]


def image_name(split: Split, image: int) -> str:
    """The image's path relative to the dataset, where it lies in it."""
    path = split.images[image].path
    return printable(path.relative_to(split.root) if path.is_relative_to(split.root) else path.name)


def view_of(split: Split, image: int, marks: tuple[Mark, ...] = ()) -> View:
    """The image with these boxes; without any, with all objects to train on as context."""
    record = split.images[image]
    return View(record.path, image_name(split, image), (record.width, record.height), marks, split.orientation.default)


def context_marks(split: Split, image: int) -> tuple[Mark, ...]:
    """All objects to train on, as thin lines."""
    return tuple(Mark((box[0], box[1], box[2], box[3]), "context") for box in split.images[image].boxes_xyxy.tolist())


def true_box(split: Split, object: int) -> tuple[float, float, float, float]:
    """Corners of an object by its place in the ground truth."""
    return corners(split.ground_truth.boxes_xywh[object])


def corners(box_xywh: Float64[np.ndarray, "4"]) -> tuple[float, float, float, float]:
    """Of a box as a mark has them."""
    x, y, width, height = box_xywh.tolist()
    return x, y, x + width, y + height
