"""From a dataset folder in any known format to checked splits."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detr_lite.data.cache import cache_file
from detr_lite.data.checks.annotations import check_annotations
from detr_lite.data.checks.garbage import refuse_garbage
from detr_lite.data.checks.images import check_images
from detr_lite.data.formats.recognize import Source, find_source
from detr_lite.data.images.files import Orientation, pixel_limit
from detr_lite.data.images.names import drop_missing
from detr_lite.data.records import RawSplit, Split, common_orientation, make_split
from detr_lite.data.report import OnFault, SplitReport, raise_refused
from detr_lite.data.split_cache import load_split, save_split
from detr_lite.data.split_names import SPLIT_WORDS
from detr_lite.errors import DetrLiteError
from detr_lite.io import atomic_write
from detr_lite.text import printable, shorten_list

logger = logging.getLogger(__name__)

VAL_SHARE = 0.2
"""Share of the training images that become the validation split of a dataset without one."""


@dataclass(frozen=True)
class Reading:
    """How a dataset is to be read."""

    on_fault: OnFault = "repair"
    orientation: Orientation | None = None
    """Of images whose EXIF orientation the sizes in the annotations do not settle; by default what all sizes that
    settle it say, in all splits that are read together."""


def read_split(root: Path, split: str, reading: Reading | None = None) -> Split:
    """One split; raises `DetrLiteError` with everything that forbids using it."""
    return read_dataset(root, (split,), reading)[split]


def read_dataset(
    root: Path, splits: Sequence[str] = ("train", "val"), reading: Reading | None = None
) -> dict[str, Split]:
    """Read and check splits of a dataset in any known format: annotations, and every image file.

    The result is cached by the size and time of all files, so that a second call takes a moment.

    Raises `DetrLiteError` with everything that forbids using the dataset, in all splits at once.
    """
    examined = examine(root, splits, reading or Reading())
    if "train" in examined and "val" in examined:
        examined["val"] = join_categories(examined["train"], examined["val"])
        _note_shared_images(examined["train"], examined["val"])
    raise_refused(root, [split.report for split in examined.values()])
    return examined


def describe_data(splits: Iterable[Split]) -> list[str]:
    """Lines for the log: what each split holds, and each kind of fault once."""
    splits = list(splits)
    lines = [split.describe() for split in splits] + [line for split in splits for line in split.report.lines()]
    return list(dict.fromkeys(lines))  # two splits of one file share its faults


def write_report(path: Path, splits: Iterable[Split]) -> None:
    """Write all findings of these splits, with every entry, as JSON."""
    content = {
        split.name: {
            "source": str(split.source),
            "format": split.format,
            "images": len(split.images),
            "objects": len(split.images.labels),
            "categories": [category.name for category in split.categories],
            **split.report.to_dict(),
        }
        for split in splits
    }
    atomic_write(path, lambda file: file.write(f"{json.dumps(content, indent=2)}\n".encode()), durable=False)


def examine(root: Path, splits: Sequence[str], reading: Reading) -> dict[str, Split]:
    """As `read_dataset`, but what forbids using a split stays in its report.

    Raises `DetrLiteError` for files that cannot be read as any known format.
    """
    return _read_all(find_source(root), splits, reading, share=True)


def read_stored(root: Path, reading: Reading) -> dict[str, Split]:
    """Every split that a dataset has, with all its images, also where training would hold some out for validation.

    What forbids using a split stays in its report.

    Raises `DetrLiteError` for files that cannot be read as any known format.
    """
    source = find_source(root)
    return _read_all(source, list(source.splits), reading, share=False)


def join_categories(train: Split, val: Split) -> Split:
    """The validation split under the labels of training, joined by name.

    Classes that only one of the two lists are no fault; objects of a class that training does not list are refused in
    the split's report.
    """
    known = {category.name for category in train.categories}
    used = np.unique(val.ground_truth.labels[~val.ground_truth.is_crowd])
    unknown = [val.categories[label].name for label in used if val.categories[label].name not in known]
    if unknown:
        val.report.refuse(
            "unknown_class",
            f"has objects of classes that {train.report.source} does not list ({shorten_list(unknown)}); add these "
            "classes to training, or take their objects out",
        )
        return val
    return val.with_categories(train.categories)


def _note_shared_images(train: Split, val: Split) -> None:
    folders: dict[str, str] = {}

    def file_of(path: str) -> str:
        """With links to folders resolved; a folder at a time, for 118,000 images."""
        folder, _, name = path.rpartition(os.sep)  # os.path.split takes several times as long
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        return f"{folders[folder]}/{name}"

    validated = set(map(file_of, val.images.paths))  # of the smaller split
    both = {file for file in map(file_of, train.images.paths) if file in validated}
    shared = [val.file_name(index) for index, path in enumerate(val.images.paths) if file_of(path) in both]
    if shared:
        val.report.note(
            "images_of_training", "images of training, on which the results do not say how other images do", shared
        )


def _read_all(source: Source, splits: Sequence[str], reading: Reading, share: bool) -> dict[str, Split]:
    """The splits by name; what is wrong with several files is raised as one error.

    Each is read as its own sizes say, and again only if it holds images that this leaves open and `reading` or the
    other splits say otherwise: the cache then serves training, where the orientation is open, and all that follows.
    """
    by_sizes = replace(reading, orientation=None)
    examined: dict[str, Split] = {}
    errors: list[str] = []
    for split in splits:
        try:
            examined[split] = _cached_split(source, split, by_sizes, share)
        except DetrLiteError as error:
            errors.append(str(error))
    if errors:
        refused = [f"{split.report.source}: {line}" for split in examined.values() for line in split.report.refusals()]
        raise DetrLiteError(" | ".join(dict.fromkeys([*errors, *refused])))
    default = reading.orientation or common_orientation([split.orientation for split in examined.values()])
    for name, found in examined.items():
        if found.orientation.default != default and found.orientation.unsettled:
            examined[name] = _cached_split(source, name, replace(reading, orientation=default), share)
        else:
            examined[name] = replace(found, orientation=replace(found.orientation, default=default))
    return examined


def _cached_split(source: Source, split: str, reading: Reading, share: bool) -> Split:
    """The split from the cache if none of its files has changed since, else read and checked.

    With `share`, a dataset without a validation split is divided.
    """
    name, is_share = _stored_name(source, split) if share else (split, False)
    file = cache_file(
        "split", source.root.resolve(), split, is_share, reading.on_fault, reading.orientation, pixel_limit()
    )
    files = [str(path) for path in source.files(name)]
    cached = load_split(file, files)
    if cached is not None:
        return cached
    logger.info(f"reading and checking {printable(source.splits[name])} ({source.format}), split {split}")
    report = SplitReport(_shown_source(source, name), reading.on_fault)
    raw = source.read(name, report)
    if is_share:
        raw = _share(raw, report, split)
    checked = check_images(drop_missing(raw, report), report, reading.orientation)
    refuse_garbage(checked, report)
    checked = check_annotations(checked, report, is_training=split == "train")
    if not checked.paths and not report.refusals():
        report.refuse("no_image_left", "has no image that can be used; add images, or mend those that are left out")
    result = make_split(source.root, split, source.splits[name], source.format, checked, report)
    return save_split(file, result, files, raw.paths)


def _stored_name(source: Source, split: str) -> tuple[str, bool]:
    """The split of the source that this split is read from, and whether it is a share of it."""
    split = SPLIT_WORDS.get(split, split)  # "valid" is what Roboflow calls it
    is_without_val = "train" in source.splits and "val" not in source.splits
    if split in ("train", "val") and is_without_val:
        return "train", True
    if split in source.splits:
        return split, False
    raise DetrLiteError(
        f"{source.root} ({source.format}): has no split {split}; it has {shorten_list(list(source.splits))}"
    )


def _share(raw: RawSplit, report: SplitReport, split: str) -> RawSplit:
    """The part of a dataset without a validation split that is trained on, or held out for validation.

    An image's part depends on its name alone, so that it stays where it is when images are added.
    """
    if len(raw.names) < 2:
        raise DetrLiteError(f"{report.source}: has one image and no validation split; add another image or a split")
    shares = np.array([_hashed_share(name) for name in raw.names])
    is_val = shares < VAL_SHARE
    if is_val.all() or not is_val.any():  # of a few images
        is_val = shares == shares.min()
    report.note(
        "no_validation_split",
        f"there is no validation split: {int(is_val.sum()):,} of {len(is_val):,} images, chosen by a hash of their "
        "names, are held out of training for it",
    )
    keep = is_val if split == "val" else ~is_val
    share = raw.keep_images(keep)
    report.divide(len(share.names), len(share.labels))
    return share


def _hashed_share(name: str) -> float:
    """A number from 0 to 1 that is spread evenly over names."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="replace")).digest()[:4], "big") / 2**32


def _shown_source(source: Source, name: str) -> str:
    path = source.splits[name]
    return str(path.relative_to(source.root)) if path.is_relative_to(source.root) else str(path)
