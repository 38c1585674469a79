"""Chooses some of a split's images, at random or so that its classes appear about equally often."""

import numpy as np
from jaxtyping import Bool

from detr_lite.data.records import RawSplit
from detr_lite.grouping import places_of_each


def choose_images(split: RawSplit, count: int, seed: int, balanced: bool = False) -> Bool[np.ndarray, " image"]:
    """Which images to keep: `count` of them, chosen at random.

    With `balanced`, each is drawn from those with an object of the class that the fewest chosen images have; images
    without objects come last.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(split.names))
    if balanced:
        order = _balanced_order(split, order, count)
    keep = np.zeros(len(order), dtype=bool)
    keep[order[:count]] = True
    return keep


def _balanced_order(split: RawSplit, order: np.ndarray, count: int) -> np.ndarray:
    classes = len(split.categories)
    kept = ~split.is_crowd
    pairs = np.unique(split.image_index[kept] * max(classes, 1) + split.labels[kept])
    images, labels = np.divmod(pairs, max(classes, 1))
    starts = np.searchsorted(images, np.arange(len(order) + 1))
    rank = np.argsort(order)
    waiting = [images[places] for places in places_of_each(labels, classes)]
    waiting = [group[np.argsort(-rank[group])] for group in waiting]
    """Images with each class; the next one is at the end."""
    left = np.array([len(group) for group in waiting])
    chosen_with = np.zeros(classes)
    is_chosen = np.zeros(len(order), dtype=bool)
    chosen: list[int] = []
    while len(chosen) < count and left.any():
        label = int(np.where(left > 0, chosen_with, np.inf).argmin())
        left[label] -= 1
        image = int(waiting[label][left[label]])
        if not is_chosen[image]:
            is_chosen[image] = True
            chosen.append(image)
            chosen_with[labels[starts[image] : starts[image + 1]]] += 1
    return np.concatenate([np.array(chosen, dtype=np.int64), order[~is_chosen[order]]])
