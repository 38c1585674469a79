"""The datasets that `detr-lite prepare-data` reads and writes, and what it says of them."""

import difflib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detr_lite.data.editing.edits import align_categories, editable, objects_per_class
from detr_lite.data.formats.new_dataset import Placing, Written, new_dataset
from detr_lite.data.formats.write_coco import write_coco
from detr_lite.data.formats.write_yolo import write_yolo
from detr_lite.data.images.files import Orientation
from detr_lite.data.reading import Reading, describe_data, read_stored
from detr_lite.data.records import RawSplit
from detr_lite.data.report import OnFault, raise_refused
from detr_lite.errors import DetrLiteError
from detr_lite.text import printable, shorten_list

logger = logging.getLogger(__name__)

WRITERS: dict[str, tuple[str, Callable[[Mapping[str, RawSplit], Path, Placing], Written]]] = {
    "coco": ("COCO", write_coco),
    "yolo": ("YOLO", write_yolo),
}

MAX_CLASSES = 50
"""In tables of counts."""


@dataclass(frozen=True)
class Options:
    """How sources are read and the output is written."""

    to: str
    """A key of `WRITERS`."""
    files: Placing
    overwrite: bool
    on_fault: OnFault
    orientation: Orientation | None
    call: str
    """The command line, which the output names."""

    @property
    def reading(self) -> Reading:
        return Reading(self.on_fault, self.orientation)


def read_source(source: Path, options: Options) -> dict[str, RawSplit]:
    check_source(source)
    splits = read_stored(source, options.reading)
    for line in describe_data(splits.values()):
        logger.info(line)
    raise_refused(source, (each.report for each in splits.values()))
    return {name: editable(each) for name, each in splits.items()}


def write_output(splits: Mapping[str, RawSplit], output: Path, sources: Sequence[Path], options: Options) -> None:
    empty = [name for name, each in splits.items() if not each.names]
    splits = {name: each for name, each in splits.items() if each.names}
    if not splits or "train" in empty:
        raise DetrLiteError("no training image is left; choose otherwise")
    for name in empty:
        logger.warning(f"{name}: no image is left, so that the output has no such split")
    format, write = WRITERS[options.to]
    with new_dataset(output, sources, options.call, options.overwrite) as folder:
        written = write(splits, folder, options.files)
    for line in [*_count_lines(splits), *written.notes]:
        logger.info(line)
    how = " and ".join(
        f"{count:,} {what}"
        for count, what in ((written.linked, "hard links to the source's files"), (written.copied, "copies"))
        if count
    )
    logger.info(f"wrote {printable(output)} ({format}): {written.images:,} images ({how}), {written.objects:,} objects")


def _count_lines(splits: Mapping[str, RawSplit]) -> list[str]:
    """A table of images and of objects of each class, most frequent classes first."""
    aligned = align_categories(splits)
    counts = np.stack([objects_per_class(each) for each in aligned.values()], axis=1)
    names = [category.name for category in next(iter(aligned.values())).categories]
    order = np.argsort(-counts.sum(axis=1), kind="stable").tolist()
    rows = [["", *aligned], ["images", *(f"{len(each.names):,}" for each in aligned.values())]]
    rows += [[printable(names[place]), *(f"{count:,}" for count in counts[place].tolist())] for place in order]
    rows, more = rows[: MAX_CLASSES + 2], len(rows) - MAX_CLASSES - 2
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return lines + ([f"and {more:,} more classes"] if more > 0 else [])


def class_names(splits: Mapping[str, RawSplit]) -> list[str]:
    return list(dict.fromkeys(category.name for each in splits.values() for category in each.categories))


def check_source(source: Path) -> None:
    """In the words of this command, which has no --data.root."""
    if not source.exists():
        raise DetrLiteError(f"{source}: no such file or folder; give the dataset's folder")


def check_classes(names: Iterable[str], splits: Mapping[str, RawSplit]) -> None:
    known = class_names(splits)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {shorten_list(known)}"
            raise DetrLiteError(f"the dataset has no class {name}; {hint}")
