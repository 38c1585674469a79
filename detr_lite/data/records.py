"""A split of a dataset as arrays: as a format's reader found it, and as training and evaluation use it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64

from detr_lite.array_structures import Category, GroundTruth
from detr_lite.data.images.files import Orientation
from detr_lite.data.mapped_arrays import received, to_send
from detr_lite.data.packed import ImageId, PackedIds, PackedStrings
from detr_lite.data.report import SplitReport
from detr_lite.text import printable


@dataclass(frozen=True)
class OrientationCount:
    """How the images of a split with an EXIF orientation are read."""

    default: Orientation = "upright"
    """Of those for which the annotated sizes do not settle it."""
    stored: int = 0
    """Images whose annotated sizes refer to the pixels as stored."""
    upright: int = 0
    unsettled: int = 0


def common_orientation(counts: Iterable[OrientationCount]) -> Orientation:
    """The default that images speak for whose annotated sizes settle their orientation."""
    counts = list(counts)
    is_stored = any(count.stored for count in counts) and not any(count.upright for count in counts)
    return "stored" if is_stored else "upright"


@dataclass(frozen=True, eq=False)
class RawSplit:
    """A split as its format's reader found it: every value has its type, but none has been judged.

    The checks of `detr_lite.data.checks.annotations` and `detr_lite.data.checks.images` return a corrected copy.
    """

    categories: tuple[Category, ...]
    """Under the dataset's own ids; a label is an index here."""
    image_ids: list[ImageId]
    """The dataset's own; formats without ids number the images from 1."""
    names: list[str]
    """How messages call each image: its path relative to the dataset folder, or `file_name`."""
    paths: list[str]
    """The file of each image; it need not exist."""
    sizes_wh: Float64[np.ndarray, "image 2"]
    """Width and height as the annotations say; NaN where they do not."""
    image_index: Int64[np.ndarray, " annotation"]
    labels: Int64[np.ndarray, " annotation"]
    boxes_xywh: Float64[np.ndarray, "annotation 4"]
    """In pixels; NaN where there is no box that could be read."""
    areas: Float64[np.ndarray, " annotation"]
    """Of the objects, as the annotations say; NaN where they do not."""
    is_crowd: Bool[np.ndarray, " annotation"]
    origin: Int64[np.ndarray, " annotation"]
    """The number of each annotation in the file, counted from 0."""
    name_annotation: Callable[[int], str]
    """How messages call the annotation of this `origin`, such as "annotation 17" or "labels/a.txt line 3"."""
    orientation: OrientationCount = OrientationCount()
    """Set by the check of the images."""

    def name_of(self, annotation: int) -> str:
        """How messages call the annotation at this place in the arrays."""
        return self.name_annotation(int(self.origin[annotation]))

    def keep_annotations(self, keep: Bool[np.ndarray, " annotation"]) -> "RawSplit":
        columns = ("image_index", "labels", "boxes_xywh", "areas", "is_crowd", "origin")
        return replace(self, **{column: getattr(self, column)[keep] for column in columns})

    def keep_images(self, keep: Bool[np.ndarray, " image"]) -> "RawSplit":
        """Without some images and all their annotations."""
        if keep.all():
            return self
        kept = self.keep_annotations(keep[self.image_index])
        places = np.flatnonzero(keep).tolist()
        return replace(
            kept,
            image_ids=[self.image_ids[place] for place in places],
            names=[self.names[place] for place in places],
            paths=[self.paths[place] for place in places],
            sizes_wh=self.sizes_wh[keep],
            image_index=(np.cumsum(keep) - 1)[kept.image_index],
        )


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image with its training objects: no `iscrowd` regions, boxes clipped to the image and with an area."""

    index: int
    """In the split's arrays; `Target.image_id`."""
    path: Path
    width: int
    height: int
    boxes_xyxy: Float32[np.ndarray, "object 4"]
    """In pixels."""
    labels: Int64[np.ndarray, " object"]
    """Contiguous, 0 .. classes - 1."""


@dataclass(frozen=True, eq=False)
class ImageRecords(Sequence[ImageRecord]):
    """The images of a split with their training objects, in arrays; a record is made when it is asked for."""

    paths: PackedStrings
    sizes_wh: Int32[np.ndarray, "image 2"]
    boxes_xyxy: Float32[np.ndarray, "object 4"]
    """In the order of the images."""
    labels: Int64[np.ndarray, " object"]
    ends: Int64[np.ndarray, " ends"]
    """The objects of image i are those from `ends[i]` up to `ends[i + 1]`."""

    def __len__(self) -> int:
        return len(self.paths)

    def __getstate__(self) -> dict[str, Any]:
        return {name: to_send(value) if isinstance(value, np.ndarray) else value for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({name: received(value) for name, value in state.items()})

    def select(self, is_kept: Bool[np.ndarray, " object"]) -> "ImageRecords":
        """The same images with some of the objects."""
        if is_kept.all():
            return self  # arrays of the cache stay where processes share them
        before = np.concatenate([[0], np.cumsum(is_kept)])
        return replace(self, boxes_xyxy=self.boxes_xyxy[is_kept], labels=self.labels[is_kept], ends=before[self.ends])

    @property
    def counts(self) -> Int64[np.ndarray, " image"]:
        """Training objects of each image."""
        return np.diff(self.ends)

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ImageRecord, ...]: ...
    def __getitem__(self, index: int | slice) -> ImageRecord | tuple[ImageRecord, ...]:
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        place = range(len(self))[index]
        width, height = self.sizes_wh[place].tolist()
        objects = slice(self.ends[place], self.ends[place + 1])
        return ImageRecord(
            place, Path(self.paths[place]), width, height, self.boxes_xyxy[objects], self.labels[objects]
        )


@dataclass(frozen=True, eq=False)
class Split:
    """One split ("train", "val", "test") of a dataset, checked."""

    root: Path
    name: str
    source: Path
    """The annotation file, or the folder of annotation files."""
    format: str
    """Such as "COCO" or "YOLO"."""
    categories: tuple[Category, ...]
    """Under the dataset's own ids; an object's label is the index here."""
    images: ImageRecords
    """With the objects to train on."""
    image_ids: PackedIds
    """The dataset's own id of each image, for files that go out."""
    ground_truth: GroundTruth
    """The objects to evaluate on: boxes as the annotations have them, not clipped, and crowd regions too."""
    origin: Int64[np.ndarray, " object"]
    """The number of each of these objects in the annotation file, as in `RawSplit.origin`."""
    report: SplitReport
    orientation: OrientationCount = OrientationCount()

    @cached_property
    def has_objects(self) -> bool:
        """Whether there is an object to find, without which there is no AP."""
        # COCO's metrics ignore objects of a larger area, even where they count objects of all sizes.
        return bool((~self.ground_truth.is_crowd & (self.ground_truth.areas <= 1e10)).any())

    def file_name(self, index: int) -> str:
        """The name of an image's file without its folder, printable: how messages call the image."""
        return printable(Path(self.images.paths[index]).name)

    def with_categories(self, categories: Sequence[Category]) -> "Split":
        """The same objects under the labels of other categories, without those of names that are not among them."""
        if tuple(categories) == self.categories:
            return self
        label_of = {category.name: label for label, category in enumerate(categories)}
        labels = np.array([label_of.get(category.name, -1) for category in self.categories], dtype=np.int64)
        truth = replace(self.ground_truth, labels=labels[self.ground_truth.labels])
        is_kept = truth.labels >= 0
        return replace(
            self,
            categories=tuple(categories),
            images=replace(self.images, labels=labels[self.images.labels]).select(labels[self.images.labels] >= 0),
            ground_truth=truth if is_kept.all() else truth.select(is_kept),
            origin=self.origin if is_kept.all() else self.origin[is_kept],
        )

    def describe(self) -> str:
        """One line for the log."""
        images, objects, empty = len(self.images), len(self.images.labels), int((self.images.counts == 0).sum())
        return (
            f"{printable(self.source)} ({self.format}): {images:,} image{'s' * (images != 1)} with {objects:,} "
            f"object{'s' * (objects != 1)} of {len(self.categories)} "
            f"{'category' if len(self.categories) == 1 else 'categories'}; {empty:,} without objects"
        )


def clip_boxes(
    boxes_xywh: Float64[np.ndarray, "annotation 4"], limits_wh: Float64[np.ndarray, "annotation 2"]
) -> tuple[Float32[np.ndarray, "annotation 4"], Bool[np.ndarray, " annotation"]]:
    """Boxes as (x1, y1, x2, y2) clipped to their images, and whether any area is left of each in 32 bits."""
    low, high = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    clipped_xyxy = np.concatenate([low.clip(0, limits_wh), high.clip(0, limits_wh)], axis=1).astype(np.float32)
    return clipped_xyxy, np.asarray((clipped_xyxy[:, 2:] > clipped_xyxy[:, :2]).all(axis=1))


def make_split(root: Path, name: str, source: Path, format: str, raw: RawSplit, report: SplitReport) -> Split:
    """The split of a raw one whose values have all been checked: sizes are whole, boxes finite."""
    sizes_wh = raw.sizes_wh.astype(np.int32)
    clipped_xyxy, is_visible = clip_boxes(raw.boxes_xywh, raw.sizes_wh[raw.image_index])
    kept = np.flatnonzero(is_visible & ~raw.is_crowd)
    kept = kept[np.argsort(raw.image_index[kept], kind="stable")]
    counts = np.bincount(raw.image_index[kept], minlength=len(raw.paths))
    return Split(
        root=root,
        name=name,
        source=source,
        format=format,
        categories=raw.categories,
        images=ImageRecords(
            paths=PackedStrings(raw.paths),
            sizes_wh=sizes_wh,
            boxes_xyxy=clipped_xyxy[kept],
            labels=raw.labels[kept],
            ends=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        ),
        image_ids=PackedIds(raw.image_ids),
        ground_truth=GroundTruth(
            num_images=len(raw.paths),
            image_index=raw.image_index,
            labels=raw.labels,
            boxes_xywh=raw.boxes_xywh,
            areas=raw.areas,
            is_crowd=raw.is_crowd,
        ),
        origin=raw.origin,
        report=report,
        orientation=raw.orientation,
    )
