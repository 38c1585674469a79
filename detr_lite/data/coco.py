"""Data sets in COCO format: from a folder to checked records, and from a record to an image with its objects."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torchvision import tv_tensors

from detr_lite.box_ops import xyxy_to_cxcywh
from detr_lite.data.annotations import (
    Objects,
    check_images,
    find_placeholder,
    listed,
    read_categories,
    read_content,
    read_objects,
    uses_category,
)
from detr_lite.data.images import load_image
from detr_lite.data.sampler import Draw
from detr_lite.io import is_below
from detr_lite.structures import Category, DetrLiteError, Target
from detr_lite.text import printable, shown


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image and what can be learned from it: no `iscrowd` regions, boxes cut at the border, none without area."""

    id: int
    path: Path
    width: int
    height: int
    boxes_xyxy: Float32[np.ndarray, "object 4"]
    """In pixels."""
    labels: Int64[np.ndarray, " object"]
    """Contiguous, 0 .. classes - 1."""


@dataclass(frozen=True, eq=False)
class CocoSplit:
    """One part ("train", "val") of a data set, checked."""

    root: Path
    name: str
    annotation_file: Path
    image_folder: Path
    categories: tuple[Category, ...]
    """In ascending order of id; an object's label is the position here."""
    images: tuple[ImageRecord, ...]
    ground_truth: dict[str, Any]
    """The file's content for pycocotools, with `area` and `iscrowd` filled in where they were missing."""
    notes: tuple[str, ...]
    """What is odd in the data but no error, a line each."""

    @cached_property
    def label_of(self) -> dict[int, int]:
        """Contiguous label of each category id."""
        return {category.id: label for label, category in enumerate(self.categories)}

    def describe(self) -> str:
        """One line for the log."""
        objects = sum(len(image.labels) for image in self.images)
        empty = sum(len(image.labels) == 0 for image in self.images)
        return (
            f"{printable(self.annotation_file)}: {len(self.images):,} images with {objects:,} objects of "
            f"{len(self.categories)} categories; {empty:,} images without objects"
        )


def read_split(root: Path, split: str) -> CocoSplit:
    """Read and check the annotation file of a split, in whichever of the known layouts the folder has (`layouts_of`).

    Raises DetrLiteError for everything that training, evaluation or pycocotools would stumble over later.
    """
    if not root.is_dir():
        raise DetrLiteError(f"{root}: no such data folder; give the data set's folder with --data.root DIR")
    name = _file_of(root, split)
    layouts = layouts_of(split)
    if name is None:
        expected = " or ".join(f"{name} with {folder}/" for name, folder in layouts.items())
        raise DetrLiteError(f"{root}: no {expected} in it; give a data set in COCO layout with --data.root DIR")
    image_folder = root / layouts[name]

    content = read_content(root / name, name)
    note = _drop_placeholder(content, root, name)
    categories = read_categories(content, name)
    check_images(content, name)
    objects = read_objects(content, name, categories)
    paths = _image_paths(content, name, image_folder)
    images, notes = _records(content, objects, paths, name)
    return CocoSplit(root, split, root / name, image_folder, categories, images, content, (*note, *notes))


def layouts_of(split: str) -> dict[str, str]:
    """The annotation file of a split and the folder of its images: COCO's own names, COCO 2017's, and Roboflow's."""
    roboflow = ("valid", "val") if split == "val" else (split,)
    return {
        **{f"annotations/instances_{folder}.json": folder for folder in (split, f"{split}2017")},
        **{f"{folder}/_annotations.coco.json": folder for folder in roboflow},
    }


def _file_of(root: Path, split: str) -> str | None:
    return next((name for name in layouts_of(split) if (root / name).is_file()), None)


def _drop_placeholder(content: dict[str, Any], root: Path, name: str) -> list[str]:
    """Leave out the category that is no class, so that the number of classes is right; gives a note of it.

    One that has objects in any split is a class, in all of them: training and validation must have the same.
    """
    placeholder = find_placeholder(content)
    if placeholder is None or uses_category(content, placeholder["id"]):
        return []
    others = {_file_of(root, split) or name for split in ("train", "val", "test")} - {name}
    if any(uses_category(read_content(root / other, other), placeholder["id"]) for other in sorted(others)):
        return []
    content["categories"] = [entry for entry in content["categories"] if entry is not placeholder]
    return [
        f"{name}: category {placeholder['id']}, {shown(placeholder.get('name'))}, has no objects and heads all others: "
        "left out"
    ]


def _image_paths(content: dict[str, Any], name: str, folder: Path) -> list[Path]:
    """Where each image lies; all of them inside the folder, and there."""
    if not folder.is_dir():
        raise DetrLiteError(f"{folder}: no such folder, and {name} expects its images there; put them there")
    names_in: dict[Path, set[str] | None] = {}
    paths: list[Path] = []
    missing: list[str] = []
    for image in content["images"]:
        relative = PurePath(image["file_name"])
        path = folder / relative
        if path.parent not in names_in:
            names_in[path.parent] = _names_in(path.parent, folder)
        names = names_in[path.parent]
        if names is None or relative.is_absolute() or ".." in relative.parts:
            raise DetrLiteError(
                f"{name}: image {image['id']} has file_name {shown(image['file_name'])}, which leaves the image "
                f"folder {folder.name}/; name a file inside it"
            )
        if path.name not in names:
            missing.append(shown(image["file_name"]))
        paths.append(path)
    if missing:
        raise DetrLiteError(
            f"{folder}: {len(missing):,} of the {len(paths):,} images that {name} lists are missing "
            f"({listed(missing, most=3)}); put them there or remove their entries"
        )
    return paths


def _names_in(parent: Path, folder: Path) -> set[str] | None:
    """What lies in `parent`, or None if that is outside `folder`. One listing is faster than 118,000 questions."""
    try:
        is_inside = is_below(parent, folder)
    except ValueError:  # a name that no file can have
        return None
    if not is_inside:
        return None
    return {entry.name for entry in parent.iterdir()} if parent.is_dir() else set()


def _records(
    content: dict[str, Any], objects: Objects, paths: list[Path], name: str
) -> tuple[tuple[ImageRecord, ...], tuple[str, ...]]:
    """Sort the objects that can be trained on by image, and note those that cannot."""
    sizes_wh = np.array([(image["width"], image["height"]) for image in content["images"]], dtype=np.float64)
    limit = sizes_wh[objects.image_index]
    low, high = objects.boxes_xywh[:, :2], objects.boxes_xywh[:, :2] + objects.boxes_xywh[:, 2:]
    clamped_xyxy = np.concatenate([low.clip(0, limit), high.clip(0, limit)], axis=1).astype(np.float32)

    # A pixel of tolerance: rounding, and formats that count pixels from one.
    reaches_out = ((low < -1) | (high > limit + 1)).any(axis=1)
    has_area = (high.astype(np.float32) > low.astype(np.float32)).all(axis=1)
    is_visible = (clamped_xyxy[:, 2:] > clamped_xyxy[:, :2]).all(axis=1)
    ids = [annotation["id"] for annotation in content["annotations"]]
    notes = []
    for is_odd, what in (
        (~has_area, "boxes without area train nothing"),
        (has_area & ~is_visible, "boxes wholly outside their image train nothing"),
        (is_visible & reaches_out, "boxes that reach outside their image are cut at its border"),
    ):
        if is_odd.any():
            odd = [ids[position] for position in np.flatnonzero(is_odd)]
            notes.append(f"{name}: {what}: {len(odd):,} (ids {listed(odd)})")

    chosen = np.flatnonzero(is_visible & ~objects.is_crowd)
    chosen = chosen[np.argsort(objects.image_index[chosen], kind="stable")]
    ends = np.cumsum(np.bincount(objects.image_index[chosen], minlength=len(paths)))[:-1]
    records = tuple(
        ImageRecord(image["id"], path, image["width"], image["height"], boxes_xyxy, labels)
        for image, path, boxes_xyxy, labels in zip(
            content["images"],
            paths,
            np.split(clamped_xyxy[chosen], ends),
            np.split(objects.labels[chosen], ends),
            strict=True,
        )
    )
    return records, tuple(notes)


class PackedRecords(Sequence[ImageRecord]):
    """Records as one block of bytes, which loading processes share for good.

    Of objects each process would come to hold a copy of its own: to look at one is to count a reference, which writes.
    """

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        packed = [pickle.dumps(record) for record in records]
        self._ends = np.cumsum([0, *map(len, packed)])
        self._bytes = np.frombuffer(b"".join(packed), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ImageRecord, ...]: ...
    def __getitem__(self, index: int | slice) -> ImageRecord | tuple[ImageRecord, ...]:
        if isinstance(index, slice):
            return tuple(self[position] for position in range(*index.indices(len(self))))
        position = range(len(self))[index]
        record: ImageRecord = pickle.loads(self._bytes[self._ends[position] : self._ends[position + 1]].data)
        return record


class CocoDetection(torch.utils.data.Dataset[tuple[Tensor, Target]]):
    """The images of a split with their objects, transformed. `transform` is one of `detr_lite.data.transforms`.

    Asked for by position, or by a `Draw`, which says what its random parts start from.
    """

    def __init__(self, split: CocoSplit, transform: Callable[..., Any]) -> None:
        # Not the split itself: workers would get a copy of all annotations.
        self.images = PackedRecords(split.images)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: int | Draw) -> tuple[Float[Tensor, "3 height width"], Target]:
        if not isinstance(draw, Draw):
            return self._load(draw)
        with torch.random.fork_rng(devices=[]):  # the model's own random numbers go on as if nothing had been drawn
            torch.default_generator.manual_seed(draw.seed)
            return self._load(draw.position)

    def _load(self, index: int) -> tuple[Float[Tensor, "3 height width"], Target]:
        record = self.images[index]
        original_size = (record.height, record.width)
        image, boxes_xyxy, labels = self.transform(
            load_image(record.path, original_size),
            tv_tensors.BoundingBoxes(torch.tensor(record.boxes_xyxy), format="XYXY", canvas_size=original_size),
            torch.tensor(record.labels),
        )
        height, width = image.shape[1:]
        boxes_cxcywh = xyxy_to_cxcywh(boxes_xyxy / torch.tensor([width, height, width, height]))
        return image, Target(boxes_cxcywh, labels, record.id, original_size)
