"""Datasets in YOLO's format: a text file for each image, with one object a line."""

import re
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from tqdm import tqdm

from detr_lite.array_structures import Category
from detr_lite.data.formats.annotation_text import BadFileError, read_text
from detr_lite.data.formats.center_boxes import find_other_reading
from detr_lite.data.formats.folder_tree import FolderTree, folder_of
from detr_lite.data.formats.source import Source
from detr_lite.data.formats.split_builder import Classes, SplitBuilder, Xywh, reader_of
from detr_lite.data.formats.yolo_labels import LabelFinder, is_label
from detr_lite.data.formats.yolo_layout import YoloLayout, find_layout
from detr_lite.errors import DetrLiteError

MAX_CLASSES = 100_000
PLAIN = re.compile(r"(?:\d{1,5}(?:[ \t]\d+(?:\.\d+)?){4}\r?(?:\n|$))*")
"""A file of boxes as all tools write them."""

FURTHEST = 2.0
"""A center or a size beyond this many widths or heights is no share of the image but in pixels."""


def find_yolo(tree: FolderTree) -> Source | None:
    """Raises `DetrLiteError` for a data.yaml that cannot be read."""
    try:
        layout = find_layout(tree)
    except BadFileError as error:
        raise DetrLiteError(f"{tree.root}: a list of images or classes {error}") from error
    if layout is None:
        return None
    labels = LabelFinder(layout.tree)
    declared = None if layout.names is None else _declared(layout.names)
    read = reader_of(layout.images, lambda split: _parse(layout, labels, split), _numbered, declared)
    return Source(layout.tree.root, "YOLO", layout.sources, read, lambda split: _files(layout, labels, split))


def _files(layout: YoloLayout, labels: LabelFinder, split: str) -> list[Path]:
    """Without class names the list of classes is that of all splits."""
    splits = [split] if layout.names is not None else list(layout.images)
    images = [image for each in splits for image in layout.images[each]]
    folders = {folder for image in images for folder in (folder_of(image), *labels.folders(folder_of(image)))}
    files = [label for image in images if (label := labels.find(image))]
    sources = [str(layout.sources[each]) for each in splits]
    return [layout.tree.root / path for path in (*layout.configs, *sources, *sorted(folders), *files)]


def _declared(names: dict[int, str]) -> Classes:
    """A name that stands twice is one class, under its first number."""
    first: dict[str, int] = {}
    for number in sorted(names):
        first.setdefault(names[number], number)
    categories = tuple(Category(number, name) for name, number in first.items())
    place = {category.id: index for index, category in enumerate(categories)}
    return categories, {number: place[first[name]] for number, name in names.items()}


def _numbered(builders: Sequence[SplitBuilder]) -> Classes:
    """The classes of a dataset without names."""
    numbers = sorted({int(number) for builder in builders for number in builder.classes})
    return (
        tuple(Category(number, f"class {number}") for number in numbers),
        {number: index for index, number in enumerate(numbers)},
    )


def _parse(layout: YoloLayout, labels: LabelFinder, split: str) -> SplitBuilder:
    root, images = layout.tree.root, layout.images[split]
    builder = SplitBuilder(root, "line", sorted({root / folder_of(image) for image in images}))
    builder.read_all_sizes()
    reader = _LineReader(builder, layout)
    known = set(layout.tree.images)
    found = 0
    for image in tqdm(images, "labels", unit="file", leave=False, disable=None):
        path = str(root / image) if image in known else None
        label = labels.find(image)
        if label is None:
            builder.add_image(image, image, path)
            continue
        found += 1
        try:
            text = read_text(root / label)
        except BadFileError as error:
            builder.skip("bad_label_file", "images whose label file cannot be read", f"{label}: {error}", "image")
            continue
        reader.read(builder.add_image(image, label, path), label, text)
    if not found:
        builder.refuse(
            "no_label_files",
            f"none of the {len(images):,} images has a label file; {images[0]} needs its labels in a .txt file of the "
            "same name, in a folder labels beside images, or next to it",
        )
    for entry in (entry for missing, entry in layout.not_found.items() if missing != "test"):
        builder.note("split_not_found", f"{layout.configs[0]} names a split of which there are no images", entry)
    _note_orphans(builder, layout, labels, images)
    reader.judge()
    if layout.names is None:
        builder.note("no_class_names", 'there is no file with the names of the classes: they are called "class 0" and '
                     'so on; a data.yaml with "names" names them', "")  # fmt: skip
    elif len(set(layout.names.values())) < len(layout.names):
        names = list(layout.names.values())
        for name in sorted({name for name in names if names.count(name) > 1}):
            builder.note("repeated_class", "classes of the same name are one class", name)
    return builder


def _note_orphans(builder: SplitBuilder, layout: YoloLayout, labels: LabelFinder, images: Sequence[str]) -> None:
    """Label files of images that are not there."""
    used = {labels.find(image) for image in layout.tree.images}
    folders = {folder_of(label) for image in images if (label := labels.find(image))}
    for folder in sorted(folder for folder in folders if "labels" in folder.lower().split("/")):
        for name in sorted(labels.stems[folder]):
            path = f"{folder}/{name}"
            if path not in used and is_label(layout.tree, path):
                builder.skip("missing_image", "label files without an image", path, "image")


class _LineReader:
    """Adds the objects of label files."""

    def __init__(self, builder: SplitBuilder, layout: YoloLayout) -> None:
        self.builder, self.names, self.keypoints = builder, layout.names, layout.keypoints
        self.number_of = {name: number for number, name in (layout.names or {}).items()}
        self.lines = 0
        self.pixels: list[str] = []
        self.unnamed: list[str] = []
        self.highest, self.lowest = -1, MAX_CLASSES

    def read(self, image: int, file: str, text: str) -> None:
        if PLAIN.fullmatch(text) and self._read_plain(image, text):
            return
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                self.lines += 1
                self._read_line(image, number, f"{file} line {number}", line)

    def _read_plain(self, image: int, text: str) -> bool:
        """Add all lines, several times as fast as one by one; returns whether there was nothing to be said of any."""
        values = [float(word) for word in text.split()]
        labels = [int(label) for label in values[::5]]
        columns = [values[place::5] for place in (1, 2, 3, 4)]
        is_named = self.names is None or self.names.keys() >= set(labels)
        if not is_named or any(max(column, default=0.0) > FURTHEST for column in columns):
            return False
        for number, (label, x, y, w, h) in enumerate(zip(labels, *columns, strict=True), 1):
            self.builder.add_object(image, label, (x - w / 2, y - h / 2, w, h), number, is_relative=True)
        self.lines += len(labels)
        self.lowest, self.highest = min((self.lowest, *labels)), max((self.highest, *labels))
        return True

    def _read_line(self, image: int, number: int, entry: str, line: str) -> None:
        words, has_commas = _words(line)
        label, is_named = self._class(words, entry)
        if label is None:
            return
        try:
            values = [float(word) for word in words[1:]]
        except ValueError:
            self.builder.skip("not_numbers", "lines with something other than numbers", entry)
            return
        if not all(map(isfinite, values)):
            self.builder.skip("not_numbers", "lines with something other than numbers", entry)
            return
        box = self._box(values, entry)
        if box is None:
            return
        if max(box) > FURTHEST or min(box) < -FURTHEST:
            self.pixels.append(entry)
            return
        x, y, w, h = box
        place = self.builder.add_object(image, label, (x - w / 2, y - h / 2, w, h), number, is_relative=True)
        if has_commas:
            self.builder.repair("commas", "lines with commas", "are read without them", entry, place)
        if is_named:
            self.builder.repair("named_class", "lines with a class's name for its number", "are read so", entry, place)

    def _class(self, words: list[str], entry: str) -> tuple[int | None, bool]:
        """The class's number, and whether its name stood for it; None if the line is left out."""
        word = words[0]
        if word in self.number_of and not word.isdecimal():
            return self.number_of[word], True
        try:
            number = float(word)
        except ValueError:
            number = -1.0
        if not (number.is_integer() and 0 <= number < MAX_CLASSES):
            self.builder.skip("no_class", "lines that do not begin with a class number", entry)
            return None, False
        self.lowest, self.highest = min(self.lowest, int(number)), max(self.highest, int(number))
        if self.names is not None and int(number) not in self.names:
            self.unnamed.append(entry)
            return None, False
        return int(number), False

    def _box(self, values: list[float], entry: str) -> Xywh | None:
        """Center and size of a box, or of a polygon's box, as shares; None if the line is left out."""
        count = len(values)
        keypoints = 0 if self.keypoints is None else self.keypoints[0] * self.keypoints[1]
        if count == 5 and 0 <= values[4] <= 1:
            self.builder.note("confidence", "lines with a confidence after the box, which is ignored", entry)
        elif (keypoints and count == 4 + keypoints) or (not keypoints and _has_visibility(values)):
            self.builder.note("keypoints", "lines with keypoints after the box, which are ignored", entry)
        elif count >= 6 and count % 2 == 0:
            self.builder.note("polygon", "outlines are read as the boxes around them", entry)
            xs, ys = values[::2], values[1::2]
            return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)
        elif count != 4:
            self.builder.skip("wrong_count", "lines without the five numbers of class, center and size", entry)
            return None
        return values[0], values[1], values[2], values[3]

    def judge(self) -> None:
        """Report what only all lines together show."""
        what = "lines with boxes beyond the image: centers and sizes are shares of its width and height"
        if len(self.pixels) > self.lines / 2:
            self.builder.refuse(
                "pixels", "boxes are in pixels, but YOLO's are shares of the image's width and height; divide them",
                self.pixels,
            )  # fmt: skip
        else:
            for entry in self.pixels:
                self.builder.skip("pixels", what, entry)
        boxes = self.builder.relative_boxes()
        other = find_other_reading(boxes)
        if other is not None:
            self.builder.refuse("other_reading", f"{other[0]:,} of {len(boxes):,} boxes leave their image: {other[1]}")
        if self.unnamed and self.names:
            last = max(self.names)
            hint = "count classes from 0" if self.lowest == 1 and self.highest == last + 1 else "add their names"
            self.builder.refuse(
                "unnamed_class",
                f"class numbers go up to {self.highest}, but there are names for 0 to {last} only; {hint}",
                self.unnamed,
            )


def _words(line: str) -> tuple[list[str], bool]:
    """The words of a line, and whether it had commas: between the words, or as decimal points."""
    words = line.split()
    if "," not in line and ";" not in line:
        return words, False
    words = [word.strip(",;") for word in words]
    if len(words) >= 5 and all(word for word in words):
        return [word.replace(",", ".") for word in words], True
    return line.replace(",", " ").replace(";", " ").split() or [""], True


def _has_visibility(values: Sequence[float]) -> bool:
    """Whether the values are a box and keypoints of x, y and visibility 0, 1 or 2, rather than an outline."""
    flags = values[6::3]
    is_length = len(values) >= 7 and (len(values) - 4) % 3 == 0
    return is_length and all(flag in (0, 1, 2) for flag in flags) and values[2] > 0 and values[3] > 0
