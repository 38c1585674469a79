"""Datasets in COCO format: reading and checking a split, and loading its images with their objects."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torchvision import tv_tensors

from detr_lite.box_ops import xyxy_to_cxcywh
from detr_lite.data.annotations import Objects, check_images, read_categories, read_content, read_objects
from detr_lite.data.images import load_image
from detr_lite.data.layouts import drop_placeholder, find_annotation_file, find_images, layouts_of
from detr_lite.data.sampler import SeededIndex
from detr_lite.structures import Category, DetrLiteError, Target
from detr_lite.text import printable, shorten_list


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image with its training objects: no `iscrowd` regions, boxes clipped to the image and with an area."""

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
    """One split ("train", "val", "test") of a dataset, checked."""

    root: Path
    name: str
    annotation_file: Path
    image_folder: Path
    categories: tuple[Category, ...]
    """In ascending order of id; an object's label is the index here."""
    images: tuple[ImageRecord, ...]
    ground_truth: dict[str, Any]
    """The content of the annotation file, with `area` and `iscrowd` filled in where they were missing."""
    notes: tuple[str, ...]
    """What is unusual in the data but not an error, one line each."""

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
    """Read and check the annotation file of a split, in any of the known layouts (`layouts_of`).

    Raises `DetrLiteError` for whatever would fail later in training or evaluation. The image files are not opened.
    """
    if not root.is_dir():
        raise DetrLiteError(f"{root}: no such data folder; give the dataset's folder with --data.root DIR")
    name = find_annotation_file(root, split)
    layouts = layouts_of(split)
    if name is None:
        expected = " or ".join(f"{name} with {folder}/" for name, folder in layouts.items())
        raise DetrLiteError(f"{root}: contains no {expected}; give a dataset in COCO format with --data.root DIR")
    image_folder = root / layouts[name]

    content = read_content(root / name, name)
    note = drop_placeholder(content, root, name)
    categories = read_categories(content, name)
    check_images(content, name)
    objects = read_objects(content, name, categories)
    paths = find_images(content, name, image_folder)
    images, notes = _records(content, objects, paths, name)
    return CocoSplit(root, split, root / name, image_folder, categories, images, content, (*note, *notes))


def _records(
    content: dict[str, Any], objects: Objects, paths: list[Path], name: str
) -> tuple[tuple[ImageRecord, ...], tuple[str, ...]]:
    """Group the objects by image, without those that cannot be trained on; notes say how many these are."""
    sizes_wh = np.array([(image["width"], image["height"]) for image in content["images"]], dtype=np.float64)
    limit = sizes_wh[objects.image_index]
    low, high = objects.boxes_xywh[:, :2], objects.boxes_xywh[:, :2] + objects.boxes_xywh[:, 2:]
    clamped_xyxy = np.concatenate([low.clip(0, limit), high.clip(0, limit)], axis=1).astype(np.float32)

    # A tolerance of one pixel, for rounding and for formats that count pixels from 1.
    is_clipped = ((low < -1) | (high > limit + 1)).any(axis=1)
    has_area = (high.astype(np.float32) > low.astype(np.float32)).all(axis=1)
    is_visible = (clamped_xyxy[:, 2:] > clamped_xyxy[:, :2]).all(axis=1)
    ids = [annotation["id"] for annotation in content["annotations"]]
    notes = []
    for is_odd, what in (
        (~has_area, "boxes without area are not trained on"),
        (has_area & ~is_visible, "boxes outside their image are not trained on"),
        (is_visible & is_clipped, "boxes that extend beyond their image are clipped"),
    ):
        if is_odd.any():
            odd = [ids[index] for index in np.flatnonzero(is_odd)]
            notes.append(f"{name}: {what}: {len(odd):,} (annotation ids {shorten_list(odd)})")

    kept = np.flatnonzero(is_visible & ~objects.is_crowd)
    kept = kept[np.argsort(objects.image_index[kept], kind="stable")]
    ends = np.cumsum(np.bincount(objects.image_index[kept], minlength=len(paths)))[:-1]
    records = tuple(
        ImageRecord(image["id"], path, image["width"], image["height"], boxes_xyxy, labels)
        for image, path, boxes_xyxy, labels in zip(
            content["images"],
            paths,
            np.split(clamped_xyxy[kept], ends),
            np.split(objects.labels[kept], ends),
            strict=True,
        )
    )
    return records, tuple(notes)


class PackedRecords(Sequence[ImageRecord]):
    """Pickled records in one array, whose memory forked data loading workers share with the main process.

    Of Python objects every worker would end up with its own copy, because reading one writes its reference count.
    """

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        pickled = [pickle.dumps(record) for record in records]
        self._ends = np.cumsum([0, *map(len, pickled)])
        self._bytes = np.frombuffer(b"".join(pickled), dtype=np.uint8)

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
    """The images of a split with their objects, transformed by one of `detr_lite.data.transforms`.

    A `SeededIndex` also seeds the random parts of the transform.
    """

    def __init__(self, split: CocoSplit, transform: Callable[..., Any]) -> None:
        # Not the whole split, or every worker would copy all annotations.
        self.images = PackedRecords(split.images)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | SeededIndex) -> tuple[Float[Tensor, "3 height width"], Target]:
        if not isinstance(index, SeededIndex):
            return self._load(index)
        with torch.random.fork_rng(devices=[]):  # leaves the random numbers of the main process unchanged
            torch.default_generator.manual_seed(index.seed)
            return self._load(index.image)

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
