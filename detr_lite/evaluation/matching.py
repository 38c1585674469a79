"""Which detection finds which object: COCO's greedy matching, for all images at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64

from detr_lite.structures import DetectionArrays, GroundTruth

_CHUNK = 1 << 21
"""Pairs whose IoU is computed together: 200 MB."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Detections and objects of the same image whose boxes overlap, in the order of the detections, then objects."""

    detections: Int64[np.ndarray, " pair"]
    objects: Int64[np.ndarray, " pair"]
    ious: Float64[np.ndarray, " pair"]
    """Of a crowd region the share of the detection's area that lies inside, as in pycocotools."""

    def select(self, which: np.ndarray) -> "Pairs":
        """The pairs where a mask is True, or at these places."""
        return Pairs(self.detections[which], self.objects[which], self.ious[which])

    def best(self, count: int) -> tuple[Int64[np.ndarray, " detection"], Float64[np.ndarray, " detection"]]:
        """The object with the highest IoU of each of `count` detections and this IoU; -1 and 0 where it has none.

        Of equal ones the first.
        """
        objects, ious = np.full(count, -1), np.zeros(count)
        starts = np.flatnonzero(_is_first(self.detections))
        if len(starts):
            highest = np.maximum.reduceat(self.ious, starts)
            lengths = np.diff(np.append(starts, len(self.ious)))
            places = np.flatnonzero(self.ious == np.repeat(highest, lengths))
            places = places[_is_first(self.detections[places])]
            objects[self.detections[starts]], ious[self.detections[starts]] = self.objects[places], highest
        return objects, ious


@dataclass(frozen=True, eq=False)
class Matches:
    """The object that each detection finds."""

    objects: Int64[np.ndarray, " detection"]
    """-1 where it finds none."""
    is_ignored: Bool[np.ndarray, " detection"]
    """It finds an object that is neither to be found nor wrong to find, such as a crowd region."""

    @property
    def is_correct(self) -> Bool[np.ndarray, " detection"]:
        is_correct: Bool[np.ndarray, " detection"] = (self.objects >= 0) & ~self.is_ignored
        return is_correct


def overlaps(ground_truth: GroundTruth, detections: DetectionArrays, least: float) -> Pairs:
    """The pairs of all classes with an IoU of at least `least`, which is above 0."""
    found, true = _columns(detections.boxes_xywh), _columns(ground_truth.boxes_xywh)
    nothing = np.zeros(0, dtype=np.int64)
    chunks = [Pairs(nothing, nothing, np.zeros(0))]
    for of, objects in _pairs_of_images(ground_truth.image_index, detections.image_index):
        shared = np.ones(len(of))
        for low, high in (0, 2), (1, 3):
            side = np.minimum(found[high][of], true[high][objects]) - np.maximum(found[low][of], true[low][objects])
            meets = side > 0  # most pairs are apart, so what follows is fast
            of, objects, shared = of[meets], objects[meets], shared[meets] * side[meets]
        # In the order of pycocotools, so that no IoU differs from its in the last bit.
        whole = np.where(ground_truth.is_crowd[objects], found[4][of], found[4][of] + true[4][objects] - shared)
        ious = shared / whole
        is_near = ious >= least
        chunks.append(Pairs(of[is_near], objects[is_near], ious[is_near]))
    return Pairs(
        np.concatenate([chunk.detections for chunk in chunks]),
        np.concatenate([chunk.objects for chunk in chunks]),
        np.concatenate([chunk.ious for chunk in chunks]),
    )


def of_one_class(ground_truth: GroundTruth, detections: DetectionArrays, pairs: Pairs) -> Bool[np.ndarray, " pair"]:
    """Whether the detection has the object's class."""
    is_same: Bool[np.ndarray, " pair"] = detections.labels[pairs.detections] == ground_truth.labels[pairs.objects]
    return is_same


def match(
    ground_truth: GroundTruth,
    detections: DetectionArrays,
    pairs: Pairs,
    iou: float,
    is_ignored: Bool[np.ndarray, " object"] | None = None,
) -> Matches:
    """As in pycocotools' `COCOeval.evaluateImg`: from the highest score on, each detection takes the free object with
    the highest IoU, and an ignored one only where no other is left. A crowd region can be taken by many.

    Args:
        pairs: those that may match, such as those of one class, in the order of `overlaps`.
        iou: the least IoU of a match.
        is_ignored: objects that are neither to be found nor wrong to find; by default the crowd regions.

    The matches at a threshold of the score are those of the detections above it: matching goes from high to low.
    """
    is_ignored = ground_truth.is_crowd if is_ignored is None else is_ignored
    pairs = pairs.select(pairs.ious >= min(iou, 1 - 1e-10))
    rank = _ranks(detections, pairs.detections)[pairs.detections]
    # The last of a detection's pairs is the one that it prefers; of equal ones the last object.
    turn = rank * len(detections.scores) + pairs.detections
    by_rank = np.lexsort((pairs.ious, ~is_ignored[pairs.objects], turn))
    pairs, rank = pairs.select(by_rank), rank[by_rank]
    starts = np.searchsorted(rank, np.arange(rank.max(initial=-1) + 2))
    found = np.full(len(detections.scores), -1)
    is_taken = np.zeros(len(ground_truth.labels), dtype=bool)
    # Detections of one rank are in different images, so none takes another's object.
    for start, stop in pairwise(starts.tolist()):
        objects, of = pairs.objects[start:stop], pairs.detections[start:stop]
        is_free = ~is_taken[objects] | ground_truth.is_crowd[objects]
        objects, of = objects[is_free], of[is_free]
        chosen = _is_last(of)
        found[of[chosen]] = objects[chosen]
        is_taken[objects[chosen]] = True
    ignored = np.zeros(len(found), dtype=bool)
    ignored[found >= 0] = is_ignored[found[found >= 0]]
    return Matches(found, ignored)


def match_classes(ground_truth: GroundTruth, detections: DetectionArrays, iou: float) -> Matches:
    """COCO's matching within each class, crowd regions ignored."""
    pairs = overlaps(ground_truth, detections, iou)
    return match(ground_truth, detections, pairs.select(of_one_class(ground_truth, detections, pairs)), iou)


def within_limit(detections: DetectionArrays, limit: int) -> Bool[np.ndarray, " detection"]:
    """Whether a detection is among the first `limit` of its image and class, of which COCO's metrics count 100."""
    order = np.lexsort((-detections.scores, detections.labels, detections.image_index))
    is_within = np.zeros(len(order), dtype=bool)
    is_within[order] = _places_in_runs(detections.image_index[order], detections.labels[order]) < limit
    return is_within


def _ranks(detections: DetectionArrays, which: Int64[np.ndarray, " pair"]) -> Int64[np.ndarray, " detection"]:
    """The place of each of these detections, which are in order, among those of its image by score."""
    candidates = which[_is_first(which)]
    image = detections.image_index[candidates]
    order = np.lexsort((-detections.scores[candidates], image))
    ranks = np.zeros(len(detections.scores), dtype=np.int64)
    ranks[candidates[order]] = _places_in_runs(image[order])
    return ranks


def _places_in_runs(*keys: np.ndarray) -> Int64[np.ndarray, " entry"]:
    """The place of each entry in its run of equal keys."""
    place = np.arange(len(keys[0]))
    places: Int64[np.ndarray, " entry"] = place - np.maximum.accumulate(np.where(_is_first(*keys), place, 0))
    return places


def _is_first(*keys: np.ndarray) -> Bool[np.ndarray, " entry"]:
    """Whether an entry is the first in its run of equal keys."""
    is_first = np.ones(len(keys[0]), dtype=bool)
    is_first[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return is_first


def _is_last(key: np.ndarray) -> Bool[np.ndarray, " entry"]:
    """Whether an entry is the last in its run of equal keys."""
    is_last = np.ones(len(key), dtype=bool)
    is_last[:-1] = key[1:] != key[:-1]
    return is_last


def _pairs_of_images(
    true_image: Int64[np.ndarray, " object"], found_image: Int64[np.ndarray, " detection"]
) -> Iterator[tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]]:
    """The places of each detection and each object of its image, some at a time, in the order of the detections."""
    by_image = np.argsort(true_image, kind="stable")
    first = np.searchsorted(true_image[by_image], found_image)
    counts = np.searchsorted(true_image[by_image], found_image, side="right") - first
    ends = np.cumsum(counts)
    start = 0
    while start < len(found_image):
        before = ends[start] - counts[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + _CHUNK, side="right")))
        of = np.repeat(np.arange(start, stop), counts[start:stop])
        within = np.arange(len(of)) - np.repeat(ends[start:stop] - counts[start:stop] - before, counts[start:stop])
        yield of, by_image[first[of] + within]
        start = stop


def _columns(boxes_xywh: Float64[np.ndarray, "box 4"]) -> tuple[np.ndarray, ...]:
    """Left, top, right, bottom and area, each on its own, which is faster to look up."""
    x, y, width, height = boxes_xywh.T.copy()
    return x, y, x + width, y + height, width * height
