"""Datasets in tables of comma-separated values, one object a line.

TensorFlow's columns (filename, width, height, class, xmin, ymin, xmax, ymax) in any order, Open Images', keras-
retinanet's without a header, and boxes in one column as "[x, y, width, height]".
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

from tqdm import tqdm

from detr_lite.data.formats.annotation_text import BadFileError, read_head, read_text, to_size, unusable
from detr_lite.data.formats.box_shapes import from_corners
from detr_lite.data.formats.folder_tree import SPLITS, FolderTree, common_folder, group_by_split, stem_of, suffix_of
from detr_lite.data.formats.relative_boxes import are_relative
from detr_lite.data.formats.source import Source
from detr_lite.data.formats.split_builder import SplitBuilder, Xywh, reader_of
from detr_lite.data.formats.values import number_of
from detr_lite.data.image_sources import SUFFIXES as IMAGE_SUFFIXES
from detr_lite.data.split_names import SPLIT_WORDS

_COLUMNS = {
    "image": "filename file fname image imageid imagename imagepath imagefile img imgname imgpath path filepath",
    "label": "class label labelname classname category categoryname labels name",
    "left": "xmin x1 x0 left xtl bboxxmin bboxx1",
    "top": "ymin y1 y0 top ytl bboxymin bboxy1",
    "right": "xmax x2 right xbr bboxxmax bboxx2",
    "bottom": "ymax y2 bottom ybr bboxymax bboxy2",
    "x": "x bboxx boxx",
    "y": "y bboxy boxy",
    "box_width": "w bboxw bboxwidth boxwidth",
    "box_height": "h bboxh bboxheight boxheight",
    "box": "bbox box",
    "width": "width imagewidth imgwidth imgw",
    "height": "height imageheight imgheight imgh",
    "group": "isgroupof",
    "split": "split set subset",
}
"""Names of each column, without case and anything but letters and digits."""

_PLAIN = ("image", "left", "top", "right", "bottom", "label")
"""keras-retinanet's columns, which have no header."""


@dataclass(frozen=True)
class _Table:
    columns: dict[str, int]
    has_header: bool
    delimiter: str

    def value(self, row: Sequence[str], column: str) -> str:
        """Empty if the row or the table does not have it."""
        place = self.columns.get(column, len(row))
        return row[place].strip() if place < len(row) else ""

    def number(self, row: Sequence[str], column: str) -> float:
        text = self.value(row, column)
        return number_of(text.replace(",", ".") if self.delimiter == ";" else text)

    def box(self, row: Sequence[str]) -> Xywh | None:
        """NaN where the numbers are none, None where there is no box: an image without objects."""
        if "box" in self.columns:
            numbers = re.findall(r"[^\s,;\[\]()]+", self.value(row, "box"))
            if not numbers:
                return None
            x, y, w, h = (number_of(number) for number in (numbers if len(numbers) == 4 else "????"))
            return x, y, w, h
        corners = [column for column in ("left", "top", "right", "bottom") if column in self.columns]
        if len(corners) == 4:
            if not any(self.value(row, column) for column in corners):
                return None
            left, top, right, bottom = (self.number(row, column) for column in corners)
            return from_corners(left, top, right, bottom)
        sizes = ("box_width", "box_height") if "box_width" in self.columns else ("width", "height")
        starts = ("x", "y") if "x" in self.columns else ("left", "top")
        if not any(self.value(row, column) for column in (*starts, *sizes)):
            return None
        x, y, w, h = (self.number(row, column) for column in (*starts, *sizes))
        return x, y, w, h

    def image_size(self, row: Sequence[str]) -> tuple[float, float]:
        """NaN if the table does not have it: without corners, width and height are the box's."""
        if "right" not in self.columns and "box" not in self.columns and "box_width" not in self.columns:
            return nan, nan
        return to_size(self.number(row, "width")), to_size(self.number(row, "height"))


def find_csv(tree: FolderTree) -> Source | None:
    tables = {path: _recognize(read_head(tree.root / path)) for path in sorted(tree.files(".csv", ".tsv"))}
    used = {path: table for path, table in tables.items() if table is not None}
    if not used:
        return None
    splits = group_by_split(used, with_file_name=True)
    by_row = _splits_of_rows(tree, used) if list(splits) == ["train"] else []
    splits = {split: list(used) for split in by_row} if by_row else splits
    names = _class_descriptions(tree, [path for path in tables if path not in used])

    def parse(split: str) -> SplitBuilder:
        builder = SplitBuilder(tree.root, "line", tree.image_folders(split))
        for path in splits[split]:
            try:
                _add_rows(tree, builder, path, used[path], names, split if by_row else None)
            except (BadFileError, csv.Error) as error:
                raise unusable(tree.root / path, tree.root, BadFileError(str(error))) from error
        return builder

    sources = {split: common_folder(tree.root, files) for split, files in splits.items()}
    return Source(
        tree.root, "CSV", sources, reader_of(splits, parse), lambda split: [tree.root / path for path in tables]
    )


def _recognize(head: str) -> _Table | None:
    """The columns of a table of boxes; None for any other table."""
    line = next((line for line in head.splitlines() if line.strip()), "")
    delimiter = max(",;\t|", key=line.count)
    try:
        row = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return None
    plain = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in row]
    columns: dict[str, int] = {}
    for column, names in _COLUMNS.items():
        places = [plain.index(name) for name in names.split() if name in plain]
        if places:
            columns[column] = places[0]
    has_box = (
        {"left", "top", "right", "bottom"} <= columns.keys()
        or "box" in columns
        or {"x", "y", "box_width", "box_height"} <= columns.keys()
        or {"x", "y", "width", "height"} <= columns.keys()
    )
    if "image" in columns and has_box:
        return _Table(columns, True, delimiter)
    is_box = len(row) == 6 and all(number_of(cell) == number_of(cell) for cell in row[1:5])
    is_empty = len(row) == 6 and not any(cell.strip() for cell in row[1:])
    if (is_box or is_empty) and suffix_of(row[0].strip()) in IMAGE_SUFFIXES:
        return _Table({name: place for place, name in enumerate(_PLAIN)}, False, delimiter)
    return None


def _splits_of_rows(tree: FolderTree, tables: dict[str, _Table]) -> list[str]:
    """The splits that a column of all tables tells; empty if there is none, or if it holds anything else."""
    if not all("split" in table.columns for table in tables.values()):
        return []
    try:
        rows = [
            (table, row) for path, table in tables.items() for _, row in _read_rows(read_text(tree.root / path), table)
        ]
    except (BadFileError, csv.Error):  # said when it is read
        return []
    found = {SPLIT_WORDS.get(table.value(row, "split").lower()) for table, row in rows}
    return [split for split in SPLITS if split in found] if None not in found and "train" in found else []


def _add_rows(
    tree: FolderTree, builder: SplitBuilder, path: str, table: _Table, names: dict[str, str], split: str | None
) -> None:
    """Of all rows, or of those of a split. Raises `BadFileError` and csv.Error."""
    rows = list(_read_rows(read_text(tree.root / path), table))
    is_relative = are_relative(box for _, row in rows if (box := table.box(row)) is not None)
    if is_relative:
        builder.note("relative", f"{path}: all boxes are within 0 and 1 and are read as shares of the image's size")
    if "label" not in table.columns:
        builder.note("one_class", f'{path} has no column with classes: all objects are of the class "object"')
    by_stem = {stem_of(image): str(tree.root / image) for image in tree.images} if tree.images else {}
    images: dict[str, int] = {}
    if split is not None:
        rows = [(line, row) for line, row in rows if SPLIT_WORDS[table.value(row, "split").lower()] == split]
    for line, row in tqdm(rows, "annotations", unit="line", leave=False, disable=None):
        name, entry = table.value(row, "image"), f"{path} line {line}"
        if not name:
            builder.skip("no_name", "lines without the name of an image", entry)
            continue
        if name not in images:
            known = by_stem.get(name) if suffix_of(name) not in IMAGE_SUFFIXES else None
            images[name] = builder.add_image(name, path, known, *table.image_size(row))
        box = table.box(row)
        if box is None:
            continue
        label = "object"
        if "label" in table.columns:
            given = builder.class_name(table.value(row, "label"), entry)
            if given is None:
                continue
            label = names.get(given, given)
        is_crowd = table.value(row, "group") == "1"
        if is_crowd:
            builder.note("group", "boxes around groups are not trained on, and in evaluation neither right nor wrong",
                         entry)  # fmt: skip
        builder.add_object(images[name], label, box, line, is_relative, is_crowd)


def _read_rows(text: str, table: _Table) -> list[tuple[int, list[str]]]:
    """The line number of each row that is not empty, without the header. Raises csv.Error."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=table.delimiter)
    rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    return rows[1:] if table.has_header else rows


def _class_descriptions(tree: FolderTree, paths: Sequence[str]) -> dict[str, str]:
    """Open Images' names of its class codes, such as /m/01g317."""
    names: dict[str, str] = {}
    for path in paths:
        if "class-descriptions" in path:
            rows = csv.reader(io.StringIO(read_head(tree.root / path), newline=""))
            names |= {row[0]: row[1].strip() for row in rows if len(row) == 2 and row[0].startswith("/m/")}
    return names
