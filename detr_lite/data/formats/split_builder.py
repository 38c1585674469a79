"""Puts a split together image by image, and reports each kind of fault once."""

import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from detr_lite.array_structures import Category
from detr_lite.data.images.facts import inspect_images
from detr_lite.data.images.names import resolve_images
from detr_lite.data.records import RawSplit
from detr_lite.data.report import SplitReport, Unit
from detr_lite.text import STEERS, shown

MAX_NAME_LENGTH = 200
"""Characters in a category's name; a longer one is not a name."""

Xywh = tuple[float, float, float, float]

Label = str | int
"""How a format names a class in its annotations."""

Classes = tuple[tuple[Category, ...], dict[Label, int]]
"""The categories of a dataset, and the index among them of each class."""


@dataclass
class _Fault:
    what: str
    remedy: str
    """Of what is repaired; empty for what is noted or left out."""
    unit: Unit
    is_note: bool
    entries: list[str] = field(default_factory=list)
    annotations: list[int] = field(default_factory=list)
    """Repaired ones, which are left out where nothing is to be repaired."""


class SplitBuilder:
    """Gathers images, their objects and the faults found on the way; nothing is judged or reported before `build`.

    Args:
        root: the dataset folder.
        unit: what an object is called in its file: "line", "object", "shape".
        image_folders: where images are looked for that the annotations name without a usable path.
    """

    def __init__(self, root: Path, unit: str, image_folders: Sequence[Path] = ()) -> None:
        self.root, self.unit, self.image_folders = root, unit, image_folders
        self.classes: dict[Label, int] = {}
        """The classes named so far, numbered in that order."""
        self._names: list[str] = []
        self._sources: list[str] = []
        self._paths: list[str | None] = []
        self._sizes = array("d")
        self._image = array("q")
        self._class = array("q")
        self._boxes = array("d")
        self._numbers = array("q")
        self._is_crowd = array("b")
        self._is_relative = array("b")
        self._faults: dict[str, _Fault] = {}
        self._refusals: list[tuple[str, str, Sequence[str]]] = []
        self._needs_all_sizes = False

    def add_image(
        self, name: str, source: str, path: str | None = None, width: float = nan, height: float = nan
    ) -> int:
        """Returns the image's number.

        Args:
            name: as the annotations have it, or relative to the dataset folder.
            source: what its objects are counted in, for messages: "labels/a.txt".
            path: of the file, where it is known.
        """
        self._names.append(name)
        self._sources.append(source)
        self._paths.append(path)
        self._sizes.extend((width, height))
        return len(self._names) - 1

    def add_object(
        self,
        image: int,
        label: Label,
        box_xywh: Xywh,
        number: int,
        is_relative: bool = False,
        is_crowd: bool = False,
    ) -> int:
        """Returns the object's number in the split.

        Args:
            number: of the object in its file, counted from 1.
            is_relative: whether the box is in shares of the width and height in place of pixels.
        """
        self._image.append(image)
        self._class.append(self.classes.setdefault(label, len(self.classes)))
        self._boxes.extend(box_xywh)
        self._numbers.append(number)
        self._is_relative.append(is_relative)
        self._is_crowd.append(is_crowd)
        return len(self._image) - 1

    def relative_boxes(self) -> Float64[np.ndarray, "object 4"]:
        """Those added so far, in shares of their image."""
        boxes = np.array(self._boxes, dtype=np.float64).reshape(-1, 4)
        return np.asarray(boxes[np.array(self._is_relative, dtype=bool)])

    def declare(self, label: Label) -> None:
        """A class that is listed, whether an object has it or not."""
        self.classes.setdefault(label, len(self.classes))

    def class_name(self, name: object, entry: str) -> str | None:
        """A class's name as text of one line; None, and the object is to be left out, if it has none."""
        text = "" if name is None or isinstance(name, list | dict) else STEERS.sub(" ", str(name)).strip()
        if not text or len(text) > MAX_NAME_LENGTH:
            self.skip("no_class", "objects without a class name", entry)
            return None
        if text != name:
            self.note("class_name", "class names with spaces or line ends around them, or numbers, are read as text",
                      shown(name))  # fmt: skip
        return text

    def note(self, kind: str, text: str, entry: str = "") -> None:
        """Something unusual that costs nothing; an entry counts once."""
        fault = self._fault(kind, text, "", "annotation", True)
        if entry:
            fault.entries.append(entry)

    def skip(self, kind: str, what: str, entry: str, unit: Unit = "annotation") -> None:
        """Something that has been left out."""
        self._fault(kind, what, "", unit, False).entries.append(entry)

    def repair(self, kind: str, what: str, remedy: str, entry: str, annotation: int) -> None:
        """An annotation whose fault has one meaning, and which has been added with that meaning."""
        fault = self._fault(kind, what, remedy, "annotation", False)
        fault.entries.append(entry)
        fault.annotations.append(annotation)

    def refuse(self, kind: str, text: str, entries: Sequence[str] = ()) -> None:
        """What forbids using the split, and what to do about it."""
        self._refusals.append((kind, text, entries))

    def build(self, report: SplitReport, classes: Classes) -> RawSplit:
        """The split, with its faults reported."""
        categories, index_of = classes
        paths = self._resolve(report)
        image_of, kept = _merge_repeated(paths, self._names, report)
        sizes_wh = np.array(self._sizes, dtype=np.float64).reshape(-1, 2)
        image_index = np.array(self._image, dtype=np.int64)
        boxes = np.array(self._boxes, dtype=np.float64).reshape(-1, 4)
        is_relative = np.array(self._is_relative, dtype=bool)
        self._fill_sizes(sizes_wh, paths, image_index[is_relative])
        boxes[is_relative] *= np.tile(sizes_wh[image_index[is_relative]], 2)
        label_of = np.array([index_of[name] for name in self.classes], dtype=np.int64)
        report.totals["image"] += len(kept) + self._count_skipped("image")
        report.totals["annotation"] += len(boxes) + self._count_skipped("annotation")
        sources, numbers, unit = self._sources, self._numbers, self.unit
        images = self._image

        def name_annotation(origin: int) -> str:
            return f"{sources[images[origin]]} {unit} {numbers[origin]}"

        raw = RawSplit(
            categories=categories,
            image_ids=list(range(1, len(kept) + 1)),
            names=[self._names[place] for place in kept],
            paths=[paths[place] for place in kept],
            sizes_wh=sizes_wh[kept],
            image_index=image_of[image_index],
            labels=label_of[np.array(self._class, dtype=np.int64)],
            boxes_xywh=boxes,
            areas=np.full(len(boxes), nan),
            is_crowd=np.array(self._is_crowd, dtype=bool),
            origin=np.arange(len(boxes)),
            name_annotation=name_annotation,
        )
        return raw.keep_annotations(self._report(report, len(boxes)))

    def read_all_sizes(self) -> None:
        """Have the size of every image read from its file: the annotations have none, and refer to upright images."""
        self._needs_all_sizes = True

    def _fault(self, kind: str, what: str, remedy: str, unit: Unit, is_note: bool) -> _Fault:
        return self._faults.setdefault(kind, _Fault(what, remedy, unit, is_note))

    def _count_skipped(self, unit: Unit) -> int:
        """Entries that have been left out before they were counted as images or annotations."""
        faults = [each for each in self._faults.values() if not each.is_note and not each.remedy and each.unit == unit]
        return sum(len(fault.entries) for fault in faults)

    def _resolve(self, report: SplitReport) -> list[str]:
        """The path of each image."""
        unknown = [place for place, path in enumerate(self._paths) if path is None]
        found = resolve_images([self._names[place] for place in unknown], self.image_folders, self.root, report)
        paths = list(self._paths)
        for place, path in zip(unknown, found, strict=True):
            paths[place] = path
        return [path or "" for path in paths]

    def _fill_sizes(self, sizes_wh: np.ndarray, paths: Sequence[str], relative: np.ndarray) -> None:
        """Read the missing sizes of the images that need one."""
        is_needed = np.zeros(len(paths), dtype=bool)
        is_needed[relative] = True
        is_needed |= self._needs_all_sizes
        is_needed &= ~(sizes_wh > 0).all(axis=1) & np.array([bool(path) for path in paths], dtype=bool)
        sizes_wh[is_needed] = _upright_sizes([path for path, need in zip(paths, is_needed, strict=True) if need])

    def _report(self, report: SplitReport, annotations: int) -> np.ndarray:
        """Hand the faults over; returns which annotations to keep."""
        keep = np.ones(annotations, dtype=bool)
        for kind, fault in self._faults.items():
            if fault.is_note:
                report.note(kind, fault.what, dict.fromkeys(fault.entries))
            elif not fault.remedy:
                report.skip(kind, fault.what, fault.entries, fault.unit)
            elif not report.repair(kind, fault.what, fault.remedy, fault.entries):
                keep[fault.annotations] = False
        for kind, text, entries in self._refusals:
            report.refuse(kind, text, entries)
        return keep


def alphabetical(builders: Sequence[SplitBuilder]) -> Classes:
    """The classes of all splits by name, with ids from 1."""
    names = sorted({str(name) for builder in builders for name in builder.classes})
    return tuple(Category(id, name) for id, name in enumerate(names, 1)), {name: i for i, name in enumerate(names)}


def reader_of(
    splits: Iterable[str],
    parse: Callable[[str], SplitBuilder],
    categorize: Callable[[Sequence[SplitBuilder]], Classes] = alphabetical,
    declared: Classes | None = None,
) -> Callable[[str, SplitReport], RawSplit]:
    """The `read` of a `Source`. Classes that no file declares are those of all splits, so that splits agree."""
    parsed: dict[str, SplitBuilder] = {}

    def read(split: str, report: SplitReport) -> RawSplit:
        if declared is not None:
            return parse(split).build(report, declared)
        for name in splits:
            if name not in parsed:
                parsed[name] = parse(name)
        classes = categorize(list(parsed.values()))
        if split != "train" and "train" in parsed:
            categories, index_of = classes
            untrained = [label for label in parsed[split].classes if label not in parsed["train"].classes]
            names = [categories[index_of[label]].name for label in untrained]
            if names:
                report.note("untrained_class", "classes that no training image has are in this split", names)
        return parsed[split].build(report, classes)

    return read


def _upright_sizes(paths: Sequence[str]) -> Float64[np.ndarray, "image 2"]:
    """Width and height of each image with its EXIF orientation applied; NaN if it is unreadable."""
    facts = inspect_images(paths)
    is_sideways = facts.orientations[:, None] > 4
    sizes_wh = np.where(is_sideways, facts.sizes_wh[:, ::-1], facts.sizes_wh)
    return np.where(sizes_wh > 0, sizes_wh, nan)


def _merge_repeated(paths: Sequence[str], names: Sequence[str], report: SplitReport) -> tuple[np.ndarray, list[int]]:
    """The new index of each image, and the images to keep: those listed twice become one, with the objects of both."""
    first: dict[str, int] = {}
    index: list[int] = []
    kept: list[int] = []
    repeated: list[str] = []
    for place, path in enumerate(paths):
        key = os.path.normpath(path) if path else str(place)
        if key in first:
            repeated.append(names[place])
        else:
            first[key] = len(kept)
            kept.append(place)
        index.append(first[key])
    if repeated:
        report.note("repeated_image", "images that are listed more than once are one image with the objects of all",
                    repeated)  # fmt: skip
    return np.array(index, dtype=np.int64), kept
