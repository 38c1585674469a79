"""Everything that `detr-lite doctor` looks at in a dataset, put together for its page."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np

from detr_lite.build import build_resize
from detr_lite.cli.label_check import detect_in
from detr_lite.config import Config
from detr_lite.data.analysis.near_duplicates import near_pairs, same_files
from detr_lite.data.analysis.one_color import one_color_images
from detr_lite.data.analysis.outliers import find_odd_boxes
from detr_lite.data.formats.recognize import Source, find_source
from detr_lite.data.images.thumbnails import read_thumbnails
from detr_lite.data.reading import Reading, examine, join_categories
from detr_lite.data.records import RawSplit, Split
from detr_lite.data.report import SplitReport
from detr_lite.detector import Detector
from detr_lite.errors import DetrLiteError
from detr_lite.evaluation.label_errors import find_label_errors
from detr_lite.text import printable, shorten_list
from detr_lite.training.auto import choose_sizes
from detr_lite.viz.doctor.duplicates import Repeats, repeated_groups, shared_groups
from detr_lite.viz.doctor.groups import fault_groups, odd_groups, one_color_groups, rare_classes
from detr_lite.viz.doctor.overview import MAX_HIDDEN, Choice, hidden_groups
from detr_lite.viz.doctor.page import Checkup
from detr_lite.viz.pages.gallery import Group
from detr_lite.viz.pages.label_groups import label_groups

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examined:
    """A dataset with all its faults."""

    root: Path
    source: Source
    splits: Mapping[str, Split]
    """Those that could be read, training first, under the classes of training."""
    unreadable: Mapping[str, str]
    """Why the others could not."""
    raws: Mapping[str, Callable[[], RawSplit]]
    """Reads each split again as its files have it."""


def examine_all(root: Path, reading: Reading) -> Examined:
    """All splits of a dataset. Errors: a folder that is no dataset of a known format."""
    source = find_source(root)
    names = [name for name in ("train", "val", *source.splits) if name in source.splits or "train" in source.splits]
    names = list(dict.fromkeys(names))
    unreadable: dict[str, str] = {}
    for name in names:
        try:
            examine(root, [name], reading)
        except DetrLiteError as error:
            unreadable[name] = str(error)
    # From the cache, and together: what the images of one split say of their orientation holds for the others too.
    splits = examine(root, [name for name in names if name not in unreadable], reading)
    for name, split in splits.items():
        if name != "train" and "train" in splits:
            splits[name] = join_categories(splits["train"], split)

    def reader(name: str) -> Callable[[], RawSplit]:
        stored = name if name in source.splits else "train"  # a share of training stands in for a missing split
        return cache(lambda: source.read(stored, SplitReport(name)))

    return Examined(root, source, splits, unreadable, {name: reader(name) for name in splits})


def make_checkup(examined: Examined, detector: Detector | None, most_images: int) -> Checkup:
    """Judge the splits.

    Args:
        detector: a trained model, with whose detections the labels are compared.
        most_images: of each split, in which the model detects objects, evenly chosen.
    """
    groups, passes = _faults(examined), _sound(examined)
    train = examined.splits.get("train")
    choice = None if train is None or not len(train.images) else _choose(train)
    thumbnails = {name: read_thumbnails(list(split.images.paths)) for name, split in examined.splits.items()}
    for name, split in examined.splits.items():
        groups += one_color_groups(split, one_color_images(thumbnails[name]).tolist())
    repeats = _repeats(examined, thumbnails)
    groups += repeats
    if not any(group.kind in ("copies_in_both", "near_in_both") for group in repeats) and len(examined.splits) > 1:
        passes.append("No image stands in two splits, or nearly so")
    odd = [group for split in examined.splits.values() for group in odd_groups(split, find_odd_boxes(split))]
    groups += odd
    if not odd and examined.splits:
        passes.append("No box is unusual for its class")
    if train is not None:
        groups += rare_classes(train)
    if train is not None and choice is not None:
        hidden = hidden_groups(train, choice)
        groups += hidden
        if not hidden and len(train.images.labels):
            passes.append(f"At most {MAX_HIDDEN:.0%} of a class is smaller than a token at the chosen size")
    if detector is not None:
        groups += _label_errors(examined, detector, most_images)
    return Checkup(str(examined.root), examined.source.format, examined.splits, groups, passes, choice)


def _faults(examined: Examined) -> list[Group]:
    groups = [
        Group("unreadable", "mend", "Annotations that cannot be read", name, _sentence(reason))
        for name, reason in examined.unreadable.items()
    ]
    if "train" not in examined.source.splits:
        found = shorten_list(list(examined.source.splits))
        text = f"There is no training split, only {found}. To train, name one of them train."
        groups.append(Group("no_training_split", "mend", "No training split", "", text))
    for name, split in examined.splits.items():
        groups += fault_groups(name, split.report, examined.raws[name])
    return groups


def _sound(examined: Examined) -> list[str]:
    passes = []
    if examined.splits and not any(split.report.count_skipped("image") for split in examined.splits.values()):
        images = sum(len(split.images) for split in examined.splits.values())
        passes.append(f"All {images:,} images can be opened")
    if examined.splits and not any(split.report.count_skipped("annotation") for split in examined.splits.values()):
        passes.append("No annotation has to be left out")
    return passes


def _choose(train: Split) -> Choice:
    """What training chooses with the default settings."""
    config, reasons = choose_sizes(Config(), train)
    return Choice(build_resize(config.data), config.model.strides[0], tuple(map(printable, reasons)))


def _repeats(examined: Examined, thumbnails: Mapping[str, np.ndarray]) -> list[Group]:
    paths = [path for split in examined.splits.values() for path in split.images.paths]
    owners = [(name, place) for name, split in examined.splits.items() for place in range(len(split.images))]
    copies = [[owners[place] for place in group] for group in same_files(paths)]

    def copies_in(first: str, second: str) -> list[tuple[int, int]]:
        """One for each image of the first split; within one split, each copy with the first of its group."""
        found = []
        for group in copies:
            own = [place for name, place in group if name == first]
            if first == second:
                found += [(own[0], place) for place in own[1:]]
            else:
                others = [place for name, place in group if name == second]
                found += [(place, others[0]) for place in own if others]
        return found

    groups: list[Group] = []
    for other, name in combinations(examined.splits, 2):
        near = near_pairs(thumbnails[name], thumbnails[other])
        repeats = Repeats(examined.splits[name], examined.splits[other], copies_in(name, other), near)
        groups += shared_groups(repeats)
    for name, split in examined.splits.items():
        groups += repeated_groups(Repeats(split, split, copies_in(name, name), near_pairs(thumbnails[name])))
    return groups


def _label_errors(examined: Examined, detector: Detector, most_images: int) -> list[Group]:
    groups = []
    for split in examined.splits.values():
        count = len(split.images)
        images = np.unique(np.linspace(0, max(0, count - 1), min(count, most_images)).round().astype(int)).tolist()
        if len(images) < count:
            logger.info(
                f"{split.name}: the model looks at {len(images):,} of {count:,} images; --max_images changes that"
            )
        errors = find_label_errors(split.ground_truth, detect_in(detector, split, images))
        looked_at = set(images)
        groups += label_groups(split, [error for error in errors if error.image in looked_at])
    return groups


def _sentence(text: str) -> str:
    text = printable(text)
    return f"{text[:1].upper()}{text[1:]}."
