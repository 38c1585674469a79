"""Chosen images: as many as asked for, and classes about equally often."""

from dataclasses import replace

import numpy as np
import pytest

from detr_lite.data.editing.subset import choose_images
from detr_lite.data.records import RawSplit
from tests.helpers.random_splits import random_split


def images_with_class(split: RawSplit, keep: np.ndarray) -> list[int]:
    kept = keep[split.image_index] & ~split.is_crowd
    pairs = {*zip(split.image_index[kept].tolist(), split.labels[kept].tolist(), strict=True)}
    return np.bincount([label for _, label in pairs], minlength=len(split.categories)).tolist()


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("count", [1, 17, 60])
def test_as_many_as_asked_for_by_the_seed(balanced: bool, count: int) -> None:
    split = random_split(0, images=60)
    keep, again, other = (choose_images(split, count, seed, balanced) for seed in (1, 1, 2))
    assert keep.sum() == other.sum() == count
    assert np.array_equal(keep, again)
    assert count != 17 or not np.array_equal(keep, other)


def test_every_image_is_as_likely() -> None:
    split = random_split(0, images=20)
    chosen = np.sum([choose_images(split, 5, seed) for seed in range(400)], axis=0)
    assert chosen.min() > 60
    assert chosen.max() < 140


def test_balanced_classes_are_about_equally_frequent() -> None:
    split = random_split(0, images=300)
    frequent = images_with_class(split, np.full(300, True))
    assert max(frequent) > 3 * min(frequent)
    one_each = np.concatenate([[True], np.diff(split.image_index) > 0])
    single = split.keep_annotations(one_each & ~split.is_crowd)
    keep = choose_images(single, 40, 0, balanced=True)
    assert max(images_with_class(single, keep)) - min(images_with_class(single, keep)) <= 1


def test_balanced_images_without_objects_come_last() -> None:
    split = random_split(0, images=60)
    with_objects = len({*split.image_index[~split.is_crowd].tolist()})
    keep = choose_images(split, with_objects, 0, balanced=True)
    assert {*np.flatnonzero(keep)} == {*split.image_index[~split.is_crowd].tolist()}
    assert choose_images(split, 60, 0, balanced=True).all()


def test_balanced_without_any_object() -> None:
    split = random_split(0, images=10)
    empty = replace(split.keep_annotations(np.zeros(len(split.labels), dtype=bool)), categories=())
    assert choose_images(empty, 4, 0, balanced=True).sum() == 4
