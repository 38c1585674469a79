"""Edits of checked splits: images and classes are taken out, joined and renamed; the files stay as they are."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import PurePath

import numpy as np
from jaxtyping import Int64

from detr_lite.array_structures import Category
from detr_lite.data.records import OrientationCount, RawSplit, Split
from detr_lite.errors import DetrLiteError


def editable(split: Split) -> RawSplit:
    """A checked split in a reader's arrays, with boxes as the annotations have them, and crowd regions.

    Its `names` are relative to the folder that all its images share.
    """
    truth = split.ground_truth
    paths = list(split.images.paths)
    return RawSplit(
        split.categories,
        list(split.image_ids),
        _relative_names(paths),
        paths,
        split.images.sizes_wh.astype(np.float64),
        truth.image_index,
        truth.labels,
        truth.boxes_xywh,
        truth.areas,
        truth.is_crowd,
        np.arange(len(truth.labels)),
        lambda origin: f"object {origin} of {split.name}",
        split.orientation,
    )


def join_categories(lists: Sequence[Sequence[Category]]) -> tuple[Category, ...]:
    """All classes, each name once, in the order in which they are first listed.

    A class keeps its first id, unless another class has it already.
    """
    ids: dict[str, int] = {}
    taken: set[int] = set()
    for category in chain(*lists):
        if category.name not in ids:
            ids[category.name] = max(taken) + 1 if category.id in taken else category.id
            taken.add(ids[category.name])
    return tuple(Category(id, name) for name, id in ids.items())


def align_categories(splits: Mapping[str, RawSplit]) -> dict[str, RawSplit]:
    """The splits under one list of classes, joined by name."""
    categories = join_categories([split.categories for split in splits.values()])
    label_of = {category.name: label for label, category in enumerate(categories)}
    return {
        name: _relabel(split, categories, [label_of[category.name] for category in split.categories])
        for name, split in splits.items()
    }


def join_splits(splits: Mapping[str, RawSplit]) -> RawSplit:
    """The images of all splits in one, with classes joined by name.

    Where images of several splits have the same name, it gets the split's key as a prefix; ids that are not unique are
    replaced by numbers.

    Errors: images of which only their own dataset tells how they are turned.
    """
    parts = list(align_categories(splits).values())
    offsets = np.cumsum([0, *(len(part.names) for part in parts)])
    ids = [id for part in parts for id in part.image_ids]

    def columns(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    return RawSplit(
        parts[0].categories,
        ids if len({*ids}) == len(ids) else list(range(1, len(ids) + 1)),
        _prefix_clashes({key: part.names for key, part in zip(splits, parts, strict=True)}),
        [path for part in parts for path in part.paths],
        columns("sizes_wh"),
        np.concatenate([part.image_index + offset for part, offset in zip(parts, offsets, strict=False)]),
        columns("labels"),
        columns("boxes_xywh"),
        columns("areas"),
        columns("is_crowd"),
        np.arange(sum(len(part.labels) for part in parts)),
        lambda origin: f"object {origin}",
        _join_orientations([part.orientation for part in parts]),
    )


def rename_classes(split: RawSplit, renamed: Mapping[str, str], dropped: Collection[str] = ()) -> RawSplit:
    """Classes under new names, at once, so that two may swap theirs; those with one name then become one class.

    The objects of dropped classes are left out, but none of the images.
    """
    names = [renamed.get(category.name, category.name) for category in split.categories]
    is_kept = [category.name not in dropped for category in split.categories]
    label_of: dict[str, int] = {}
    categories: list[Category] = []
    for category, name, keep in zip(split.categories, names, is_kept, strict=True):
        if keep and name not in label_of:
            label_of[name] = len(categories)
            categories.append(Category(category.id, name))
    labels = [label_of[name] if keep else -1 for name, keep in zip(names, is_kept, strict=True)]
    result = _relabel(split, tuple(categories), labels)
    return result.keep_annotations(result.labels >= 0)


def keep_classes(split: RawSplit, names: Collection[str], keep_empty: bool = False) -> RawSplit:
    """The objects of some classes, and the images with one of them; with `keep_empty` all images."""
    dropped = [category.name for category in split.categories if category.name not in names]
    kept = rename_classes(split, {}, dropped)
    return kept if keep_empty else kept.keep_images(objects_per_image(kept) > 0)


def objects_per_image(split: RawSplit) -> Int64[np.ndarray, " image"]:
    """Without crowd regions."""
    return np.bincount(split.image_index[~split.is_crowd], minlength=len(split.names))


def objects_per_class(split: RawSplit) -> Int64[np.ndarray, " class"]:
    """Without crowd regions."""
    return np.bincount(split.labels[~split.is_crowd], minlength=len(split.categories))


def unique_names(names: Sequence[str], ignore_suffix: bool = False) -> list[str]:
    """The names, of which repeated ones get a number before the suffix.

    Some file systems ignore case, and so does this. With `ignore_suffix`, a.jpg and a.png count as the same name.
    """
    taken: set[str] = set()
    unique = []
    for name in names:
        path, number = PurePath(name), 1
        candidate = path
        while (key := str(candidate.with_suffix("") if ignore_suffix else candidate).casefold()) in taken:
            number += 1
            candidate = path.with_stem(f"{path.stem}-{number}")
        taken.add(key)
        unique.append(candidate.as_posix())
    return unique


def _relative_names(paths: Sequence[str]) -> list[str]:
    """Each path relative to the deepest folder that holds them all; of one folder, the file names alone."""
    absolute = [os.path.abspath(path) for path in paths]  # noqa: PTH100 (links are to keep their names)
    if not absolute:
        return []
    common = os.path.commonpath({os.path.dirname(path) for path in absolute})  # noqa: PTH120
    return [PurePath(path).relative_to(common).as_posix().replace("\\", "_") for path in absolute]


def _prefix_clashes(names: Mapping[str, Sequence[str]]) -> list[str]:
    """The names of all parts in a row; one that several parts have gets its part's key before the file name."""
    parts_with: dict[str, int] = {}
    for part in names.values():
        for key in {name.casefold() for name in part}:
            parts_with[key] = parts_with.get(key, 0) + 1
    return [
        name
        if parts_with[name.casefold()] == 1
        else PurePath(name).with_name(f"{key}_{PurePath(name).name}").as_posix()
        for key, part in names.items()
        for name in part
    ]


def _join_orientations(counts: Sequence[OrientationCount]) -> OrientationCount:
    """Errors: images whose orientation nothing settles, read upright in one part and as stored in another."""
    defaults = {count.default for count in counts if count.unsettled}
    if len(defaults) > 1:
        raise DetrLiteError(
            "the boxes of some of these datasets follow the EXIF orientation of their images, those of others do not, "
            "and the annotations do not tell which; convert each of them first, and use the converted ones"
        )
    return OrientationCount(
        next(iter(defaults), "upright"),
        sum(count.stored for count in counts),
        sum(count.upright for count in counts),
        sum(count.unsettled for count in counts),
    )


def _relabel(split: RawSplit, categories: tuple[Category, ...], labels: Sequence[int]) -> RawSplit:
    """`labels` has the new label of each old one."""
    return replace(split, categories=categories, labels=np.array(labels, dtype=np.int64)[split.labels])
