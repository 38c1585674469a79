"""Divides the images of a dataset into parts: in given shares, groups whole, every class in every part if it can be."""

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import csc_matrix, csr_matrix

from detr_lite.data.analysis.near_duplicates import series_of
from detr_lite.data.records import RawSplit
from detr_lite.errors import DetrLiteError
from detr_lite.text import shown

GroupBy = Literal["image", "folder", "prefix"]


def group_images(names: Sequence[str], by: GroupBy = "image", pattern: str | None = None) -> list[str]:
    """The group of each image, by its file name.

    Args:
        names: relative paths.
        by: "image" for a group of its own; "folder" for the one it is in; "prefix" for that and what stands before the
            last number in its name, which frames of one video have in common.
        pattern: in place of `by`, a regular expression, found anywhere in the name; the group is what its first
            parentheses match, or all of it.

    Errors: a pattern that is not one, or that some name does not match.
    """
    if pattern is not None:
        return _matches(names, pattern)
    if by == "image":
        return list(names)
    folders = [PurePath(name).parent.as_posix() for name in names]
    if by == "folder":
        return folders
    return [f"{folder}/{series_of(name)}" for folder, name in zip(folders, names, strict=True)]


def join_groups(groups: Sequence[str], together: Sequence[Sequence[int]]) -> list[str]:
    """The groups, of which those become one that hold images of one set in `together`, such as copies of one file."""
    leader = {group: group for group in groups}

    def lead(group: str) -> str:
        while leader[group] != group:
            leader[group] = group = leader[leader[group]]
        return group

    for images in together:
        for image in images[1:]:
            leader[lead(groups[image])] = lead(groups[images[0]])
    return [lead(group) for group in groups]


def divide(split: RawSplit, groups: Sequence[str], shares: Sequence[float], seed: int) -> Int64[np.ndarray, " image"]:
    """The part of each image, 0 .. parts - 1; images of one group are in one part.

    Groups are assigned class by class, the rarest first, each to the part that still needs most images of the class
    (iterative stratification, Sechidis et al. 2011), and groups are moved where a part then lacks a class. A class with
    fewer groups than there are parts is in the first.

    Args:
        shares: of the images, one for each part; they sum to 1.

    Errors: fewer groups than parts.
    """
    numbers: dict[str, int] = {}
    group_of = np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)
    if len(numbers) < len(shares):
        raise DetrLiteError(
            f"{len(numbers)} group{'s' if len(numbers) != 1 else ''} of images cannot make {len(shares)} parts; "
            "group them in another way"
        )
    division = _Division(_images_with_class(split, group_of, len(numbers)), np.bincount(group_of), np.array(shares))
    division.assign(np.random.default_rng(seed))
    division.fill_empty_parts()
    division.bring_classes_to_all_parts()
    return division.part[group_of]


class _Division:
    """The part of each group, and what the parts hold so far."""

    def __init__(self, held: csr_matrix, sizes: Int64[np.ndarray, " group"], shares: Float64[np.ndarray, " part"]):
        self.by_group, self.by_class, self.sizes = held, csc_matrix(held), sizes
        """Images of each class in each group; images of each group."""
        self.part = np.full(len(sizes), -1, dtype=np.int64)
        self.held = np.zeros((len(shares), held.shape[1]))
        self.images = np.zeros(len(shares))
        self.wanted = np.outer(shares, np.asarray(held.sum(axis=0)).ravel())
        self.wanted_images = shares * sizes.sum()

    def assign(self, generator: np.random.Generator) -> None:
        groups_with = np.diff(self.by_class.indptr)
        for label in np.argsort(groups_with, kind="stable").tolist():
            groups, counts = _row(self.by_class, label)
            is_left = self.part[groups] < 0
            groups, counts = groups[is_left], counts[is_left]
            order = np.lexsort((generator.random(len(groups)), -counts))  # large ones first, while there is room
            for left, group in zip(range(len(groups), 0, -1), groups[order].tolist(), strict=True):
                lacking = self.held[:, label] == 0
                must_fill = left <= lacking.sum()
                allowed = lacking if must_fill else np.full(len(lacking), True)
                need = np.where(allowed, self.wanted[:, label] - self.held[:, label], -np.inf)
                self._put(group, int(np.lexsort((self.images - self.wanted_images, -need))[0]))

    def fill_empty_parts(self) -> None:
        """Such as where each group has a class of its own, all of which went to the first part."""
        for part in np.flatnonzero(self.images == 0).tolist():
            donors = np.flatnonzero(np.bincount(self.part, minlength=len(self.images))[self.part] > 1)
            distance = np.abs(self.sizes[donors] - self.wanted_images[part])
            self._put(int(donors[distance.argmin()]), part)

    def bring_classes_to_all_parts(self) -> None:
        """Move the smallest groups that can go without taking a class from where they are."""
        groups_with = np.diff(self.by_class.indptr)
        for label in np.flatnonzero(groups_with >= len(self.images)).tolist():
            for part in np.flatnonzero(self.held[:, label] == 0).tolist():
                groups, _ = _row(self.by_class, label)
                for group in groups[np.argsort(self.sizes[groups], kind="stable")].tolist():
                    if self._can_leave(group):
                        self._put(group, part)
                        break

    def _can_leave(self, group: int) -> bool:
        labels, counts = _row(self.by_group, group)
        return bool((self.held[self.part[group], labels] > counts).all())

    def _put(self, group: int, part: int) -> None:
        labels, counts = _row(self.by_group, group)
        if self.part[group] >= 0:
            self.held[self.part[group], labels] -= counts
            self.images[self.part[group]] -= self.sizes[group]
        self.part[group] = part
        self.held[part, labels] += counts
        self.images[part] += self.sizes[group]


def _images_with_class(split: RawSplit, group_of: Int64[np.ndarray, " image"], groups: int) -> csr_matrix:
    """Images of each class in each group; a last column counts those without any object."""
    classes = len(split.categories)
    kept = ~split.is_crowd
    pairs = np.unique(split.image_index[kept] * (classes + 1) + split.labels[kept])
    images, labels = np.divmod(pairs, classes + 1)
    empty = np.setdiff1d(np.arange(len(group_of)), images)
    images = np.concatenate([images, empty])
    labels = np.concatenate([labels, np.full(len(empty), classes)])
    return csr_matrix((np.ones(len(images)), (group_of[images], labels)), shape=(groups, classes + 1))


def _row(matrix: Any, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and values of the entries in a row (of a csr matrix) or column (csc)."""
    entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return matrix.indices[entries], matrix.data[entries]


def _matches(names: Sequence[str], pattern: str) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DetrLiteError(f"--group {shown(pattern)} is not a regular expression ({error})") from error
    found = [compiled.search(name) for name in names]
    missed = [name for name, match in zip(names, found, strict=True) if match is None]
    if missed:
        raise DetrLiteError(
            f"--group {shown(pattern)} is not found in {len(missed):,} of {len(names):,} names, such as "
            f"{shown(missed[0])}; every image needs a group"
        )
    return [(match[1] if compiled.groups else match[0]) or "" for match in found if match is not None]
