"""Detections in the overlapping tiles of a picture, and in the whole of it, without double answers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from detr_lite.structures import Detections

MATCH = 0.5
"""Overlap from which two detections are of one object, as in SAHI."""
EDGE_PIXELS, EDGE_SHARE = 2.0, 0.05
"""A box is cut by the edge of its tile if it comes as near: pixels, and share of its own side."""

Rows = Int64[np.ndarray, " pair"]


def merge_tiles(
    views: Sequence[Detections], frames_xyxy: Int64[np.ndarray, "view 4"], size: tuple[int, int]
) -> Detections:
    """Detections of a picture from those of its views, in the picture's pixels and in descending order of scores.

    Only detections of one class and of different views are ever joined, since a DETR answers once per view. Two are of
    one object if they agree in what both views show: their boxes, clipped to the pixels that the views share, have an
    IoU of at least `MATCH`. The higher score counts. Where its box is cut by the edge of its tile, the box is that of
    the other one, or, if that is cut too, the box around both, and so on along an object larger than its tiles.
    A cut box that mostly lies within a higher-scoring one is a part of it (the intersection over the smaller area, as
    in SAHI's greedy non-maximum merging), and left out.

    Args:
        views: of each tile, in its own pixels, the whole picture last.
        frames_xyxy: which part of the picture each view shows.
        size: (height, width) of the picture.
    """
    counts = [len(view) for view in views]
    view = np.repeat(np.arange(len(views)), counts)
    shifts = torch.from_numpy(frames_xyxy[view][:, [0, 1, 0, 1]])
    every = replace(
        views[-1],
        boxes_xyxy=torch.cat([each.boxes_xyxy for each in views]) + shifts.float(),
        scores=torch.cat([each.scores for each in views]),
        labels=torch.cat([each.labels for each in views]),
        queries=torch.cat([each.queries for each in views]),
        image_size=size,
        tiles=torch.from_numpy(np.where(view == len(views) - 1, -1, view)),
    )
    boxes_xyxy = every.boxes_xyxy.double().numpy()
    kept, merged_xyxy = merge_boxes(
        boxes_xyxy, every.scores.double().numpy(), every.labels.numpy(), view, frames_xyxy, size
    )
    return replace(every[torch.from_numpy(kept)], boxes_xyxy=torch.from_numpy(merged_xyxy).float())


def merge_boxes(
    boxes_xyxy: Float64[np.ndarray, "box 4"],
    scores: Float64[np.ndarray, " box"],
    labels: Int64[np.ndarray, " box"],
    view: Int64[np.ndarray, " box"],
    frames_xyxy: Int64[np.ndarray, "view 4"],
    size: tuple[int, int],
) -> tuple[Int64[np.ndarray, " kept"], Float64[np.ndarray, "kept 4"]]:
    """Which boxes remain, in descending order of scores, and how large they are after merging; see `merge_tiles`.

    Args:
        view: of each box, ascending.
    """
    is_cut = _is_cut(boxes_xyxy, frames_xyxy[view], size)
    first, second, do_agree = _pairs(boxes_xyxy, labels, view, frames_xyxy, is_cut)
    agreeing = _Neighbors(first[do_agree], second[do_agree], len(boxes_xyxy))
    parts = _Neighbors(first[~do_agree], second[~do_agree], len(boxes_xyxy))
    merged, is_taken = boxes_xyxy.copy(), np.zeros(len(boxes_xyxy), bool)
    order = np.argsort(-scores, kind="stable")
    kept = []
    for box in order.tolist():
        if is_taken[box]:
            continue
        kept.append(box)
        is_taken[box] = True
        is_open, frontier = bool(is_cut[box]), [box]
        while frontier:
            each = frontier.pop()
            is_taken[parts.of(each)] = True
            found = agreeing.of(each)
            found = found[~is_taken[found]]
            is_taken[found] = True
            if not is_open or not len(found):
                continue
            whole = found[~is_cut[found]]
            if len(whole):
                best = int(whole[np.argmax(scores[whole])])
                merged[box], is_open, frontier = boxes_xyxy[best], False, [*frontier, best]
            else:
                low, high = boxes_xyxy[found, :2].min(0), boxes_xyxy[found, 2:].max(0)
                merged[box] = np.concatenate([np.minimum(merged[box, :2], low), np.maximum(merged[box, 2:], high)])
                frontier += found.tolist()
    places = np.array(kept, dtype=np.int64)
    return places, merged[places]


class _Neighbors:
    """The second box of every pair, by the first."""

    def __init__(self, first: Rows, second: Rows, boxes: int) -> None:
        self._second = second[np.argsort(first, kind="stable")]
        self._ends = np.cumsum(np.bincount(first, minlength=boxes))

    def of(self, box: int) -> Rows:
        return self._second[self._ends[box - 1] if box else 0 : self._ends[box]]


def _is_cut(
    boxes_xyxy: Float64[np.ndarray, "box 4"], frame_xyxy: Int64[np.ndarray, "box 4"], size: tuple[int, int]
) -> Bool[np.ndarray, " box"]:
    """Whether a box ends at an edge of its view that is not one of the picture."""
    sides = np.tile(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 2)
    is_inner = frame_xyxy != np.array([0, 0, size[1], size[0]])
    is_near: Bool[np.ndarray, "box 4"] = np.abs(boxes_xyxy - frame_xyxy) <= EDGE_PIXELS + EDGE_SHARE * sides
    is_cut: Bool[np.ndarray, " box"] = (is_inner & is_near).any(axis=1)
    return is_cut


def _pairs(
    boxes_xyxy: Float64[np.ndarray, "box 4"],
    labels: Int64[np.ndarray, " box"],
    view: Int64[np.ndarray, " box"],
    frames_xyxy: Int64[np.ndarray, "view 4"],
    is_cut: Bool[np.ndarray, " box"],
) -> tuple[Rows, Rows, Bool[np.ndarray, " pair"]]:
    """Pairs of boxes, and whether they agree; of the others the second is a part of the first.

    View by view, as only views that overlap have pairs; a matrix of all boxes would not fit in memory.
    """
    starts = np.searchsorted(view, np.arange(len(frames_xyxy) + 1))
    firsts, seconds, agreements = [], [], []
    for each in range(len(frames_xyxy) - 1):
        later = frames_xyxy[each + 1 :]
        low, high = np.maximum(frames_xyxy[each, :2], later[:, :2]), np.minimum(frames_xyxy[each, 2:], later[:, 2:])
        others = each + 1 + np.flatnonzero((low < high).all(axis=1))
        own = np.arange(starts[each], starts[each + 1])
        other = np.concatenate([np.zeros(0, np.int64), *(np.arange(starts[o], starts[o + 1]) for o in others)])
        # Most boxes of a neighbor lie outside of what this view shows.
        is_shown = (boxes_xyxy[other, :2] < frames_xyxy[each, 2:]) & (boxes_xyxy[other, 2:] > frames_xyxy[each, :2])
        a, b = (index.ravel() for index in np.meshgrid(own, other[is_shown.all(axis=1)], indexing="ij"))
        a, b = a[labels[a] == labels[b]], b[labels[a] == labels[b]]
        shared = _overlap_areas(boxes_xyxy[a], boxes_xyxy[b])
        a, b, shared = a[shared > 0], b[shared > 0], shared[shared > 0]
        common = _intersection(frames_xyxy[view[a]], frames_xyxy[view[b]])
        in_both_a, in_both_b = _intersection(boxes_xyxy[a], common), _intersection(boxes_xyxy[b], common)
        inside = _overlap_areas(in_both_a, in_both_b)
        do_agree = inside >= MATCH * np.maximum(_areas(in_both_a) + _areas(in_both_b) - inside, 1e-9)
        areas_a, areas_b = _areas(boxes_xyxy[a]), _areas(boxes_xyxy[b])
        a_is_part = ~do_agree & is_cut[a] & (areas_a <= areas_b) & (shared >= MATCH * areas_a)
        b_is_part = ~do_agree & is_cut[b] & (areas_b < areas_a) & (shared >= MATCH * areas_b)
        firsts += [a[do_agree], b[do_agree], b[a_is_part], a[b_is_part]]
        seconds += [b[do_agree], a[do_agree], a[a_is_part], b[b_is_part]]
        agreements += [np.ones(2 * int(do_agree.sum()), bool), np.zeros(int(a_is_part.sum() + b_is_part.sum()), bool)]
    none = np.zeros(0, np.int64)
    return (
        np.concatenate([none, *firsts]),
        np.concatenate([none, *seconds]),
        np.concatenate([none.astype(bool), *agreements]),
    )


def _intersection(first_xyxy: np.ndarray, second_xyxy: np.ndarray) -> np.ndarray:
    low = np.maximum(first_xyxy[:, :2], second_xyxy[:, :2])
    return np.concatenate([low, np.maximum(np.minimum(first_xyxy[:, 2:], second_xyxy[:, 2:]), low)], axis=1)


def _overlap_areas(first_xyxy: np.ndarray, second_xyxy: np.ndarray) -> np.ndarray:
    return _areas(_intersection(first_xyxy, second_xyxy))


def _areas(boxes_xyxy: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(axis=1)
    return areas
