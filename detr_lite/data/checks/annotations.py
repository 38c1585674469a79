"""Judges every annotation of a split: what has one meaning is repaired, what has none is left out."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64

from detr_lite.data.checks.garbage import find_relative_boxes, is_garbage
from detr_lite.data.records import RawSplit, clip_boxes
from detr_lite.data.report import SplitReport, entries_of
from detr_lite.text import printable


def check_annotations(raw: RawSplit, report: SplitReport, is_training: bool) -> RawSplit:
    """The split with boxes that have an area within their image, all different, and with plausible areas of objects.

    All sizes of images must be known. What is left are exactly the objects that training uses, and the crowd regions,
    so that an evaluation misses nothing that cannot be learned. Boxes keep the values of the file even if they reach
    beyond their image, as pycocotools evaluates them; sound annotations keep every bit.

    Where `refuse_garbage` found the annotations wrong as a whole, faults of single ones follow from that: they are
    left out without a word.
    """
    if is_garbage(report):
        report = SplitReport(report.source)
    raw = _with_readable_boxes(raw, report)
    raw = _turned_round(raw, report)
    raw = _visible(raw, report, is_training)
    raw = _with_areas(raw, report)
    raw = _distinct(raw, report)
    if is_training:
        _refuse_without_objects(raw, report)
    return raw


def _names(raw: RawSplit, is_odd: Bool[np.ndarray, " annotation"]) -> list[str]:
    return entries_of(is_odd, raw.name_of)


def _without(raw: RawSplit, is_odd: Bool[np.ndarray, " annotation"]) -> RawSplit:
    return raw.keep_annotations(~is_odd) if is_odd.any() else raw


def _with_readable_boxes(raw: RawSplit, report: SplitReport) -> RawSplit:
    """Without annotations whose box is missing, not finite, so large that its area is not, or relative.

    Those that a format's reader has refused are not named a second time.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        high = raw.boxes_xywh[:, :2] + raw.boxes_xywh[:, 2:]
        derived = np.column_stack([raw.boxes_xywh, high, raw.boxes_xywh[:, 2:].prod(axis=1)])
    is_odd = ~np.isfinite(derived).all(axis=1)
    told = {entry for finding in report.findings if finding.action == "refused" for entry in finding.entries}
    entries = [name for name in _names(raw, is_odd) if printable(name) not in told]
    if entries:
        report.skip("no_box", "annotations without a box of four finite numbers", entries, "annotation")
    raw = _without(raw, is_odd)
    is_odd = find_relative_boxes(raw)
    if is_odd.any():
        what = "boxes whose numbers all lie between 0 and 1, in place of pixels,"
        report.skip("relative_box", what, _names(raw, is_odd), "annotation")
    return _without(raw, is_odd)


def _turned_round(raw: RawSplit, report: SplitReport) -> RawSplit:
    """With boxes that were drawn from the right or from below as if drawn from the upper left."""
    sizes_wh = raw.boxes_xywh[:, 2:]
    is_odd = (sizes_wh < 0).any(axis=1) & (sizes_wh != 0).all(axis=1)
    if not is_odd.any():
        return raw
    what = "boxes of negative width or height"
    if not report.repair("inverted_box", what, "are turned round", _names(raw, is_odd)):
        return _without(raw, is_odd)
    boxes_xywh = raw.boxes_xywh.copy()
    boxes_xywh[:, :2] += np.minimum(boxes_xywh[:, 2:], 0)
    boxes_xywh[:, 2:] = np.abs(boxes_xywh[:, 2:])
    areas = np.where(is_odd & (raw.areas <= 0), boxes_xywh[:, 2:].prod(axis=1), raw.areas)
    return replace(raw, boxes_xywh=boxes_xywh, areas=areas)


def _visible(raw: RawSplit, report: SplitReport, is_training: bool) -> RawSplit:
    """Without boxes that leave nothing of themselves in their image."""
    limits_wh = raw.sizes_wh[raw.image_index]
    low, high = raw.boxes_xywh[:, :2], raw.boxes_xywh[:, :2] + raw.boxes_xywh[:, 2:]
    _, is_visible = clip_boxes(raw.boxes_xywh, limits_wh)
    is_outside = (raw.boxes_xywh[:, 2:] != 0).all(axis=1) & ((low >= limits_wh) | (high <= 0)).any(axis=1)
    is_void = ~is_visible & ~is_outside
    if is_void.any():
        report.note("void_box", "boxes without area are left out", _names(raw, is_void))
    if is_outside.any():
        report.skip("outside_box", "boxes outside their image", _names(raw, is_outside), "annotation")
    # A tolerance of one pixel, for rounding and for formats that count pixels from 1.
    is_beyond = is_visible & ((low < -1) | (high > limits_wh + 1)).any(axis=1)
    if is_beyond.any():
        fate = "clipped" if is_training else "evaluated as they are"
        report.note("box_beyond_image", f"boxes that reach beyond their image are {fate}", _names(raw, is_beyond))
    is_small = is_visible & (raw.boxes_xywh[:, 2:] < 1).any(axis=1)
    if is_small.any():
        report.note("subpixel_box", "boxes less than one pixel wide or high", _names(raw, is_small))
    return _without(raw, ~is_visible)


def _with_areas(raw: RawSplit, report: SplitReport) -> RawSplit:
    """With the area of the box where the area of the object is missing or impossible.

    A file without any areas is as good as one with all; what is filled in there is not worth a note.
    """
    of_box = raw.boxes_xywh[:, 2:].prod(axis=1)
    is_missing = np.isnan(raw.areas)
    is_wrong = ~is_missing & ~_is_plausible(raw.areas, raw.boxes_xywh)
    if not (is_missing | is_wrong).any():
        return raw
    if is_missing.any() and not is_missing.all():
        report.note("missing_area", "annotations without an area have that of their box", _names(raw, is_missing))
    if is_wrong.any():
        text = "areas that do not fit their box (0 or less, or larger than it) are replaced by the box's"
        report.note("wrong_area", text, _names(raw, is_wrong))
    return replace(raw, areas=np.where(is_missing | is_wrong, of_box, raw.areas))


def _is_plausible(
    areas: Float64[np.ndarray, " annotation"], boxes_xywh: Float64[np.ndarray, "annotation 4"]
) -> Bool[np.ndarray, " annotation"]:
    """Whether an outline of this area may have this box.

    It is not larger than the box, with two pixels of tolerance for the ways to count pixels. Nor is it far less than a
    line of one pixel along the box, as areas are that are relative to the image, unless the box itself is.
    """
    sizes_wh = boxes_xywh[:, 2:]
    least = np.minimum(0.02 * sizes_wh.max(axis=1, initial=0.0), 0.5 * sizes_wh.prod(axis=1))
    return np.asarray((areas >= least) & (areas > 0) & (areas <= 1.1 * (sizes_wh + 2).prod(axis=1)))


def _distinct(raw: RawSplit, report: SplitReport) -> RawSplit:
    """Without exact copies: annotations of the same image, class and box, and both crowd regions or not."""
    order = np.lexsort([raw.boxes_xywh[:, 0], raw.image_index])
    place = np.stack([raw.image_index[order], raw.boxes_xywh[order, 0]])
    is_next_alike = (place[:, 1:] == place[:, :-1]).all(axis=0)
    # Sorting by all columns takes seconds for COCO; few annotations share their image and left edge with another.
    shares_edge = np.concatenate([is_next_alike, [False]]) | np.concatenate([[False], is_next_alike])
    order = np.sort(order[shares_edge[: len(order)]])
    columns = np.column_stack([raw.labels[order], raw.is_crowd[order], raw.boxes_xywh[order], raw.image_index[order]])
    # Of copies the one of the smallest area stays: an outline's area says more than the box's.
    ranked = np.lexsort([raw.areas[order], *columns.T])
    is_same = columns[ranked[1:]] == columns[ranked[:-1]]
    is_copy = np.zeros(len(raw.labels), dtype=bool)
    is_copy[order[ranked[1:][is_same.all(axis=1)]]] = True
    if is_copy.any():
        report.note("duplicate", "exact copies of annotations are left out", _names(raw, is_copy))
    distinct = order[~is_copy[order]]
    is_shared = _is_box_of_another(raw.boxes_xywh[distinct], raw.image_index[distinct], raw.is_crowd[distinct])
    is_second = np.zeros(len(raw.labels), dtype=bool)
    is_second[distinct[is_shared]] = True
    if is_second.any():
        report.note("two_classes", "annotations of two classes with the same box", _names(raw, is_second))
    return _without(raw, is_copy)


def _is_box_of_another(
    boxes_xywh: Float64[np.ndarray, "annotation 4"],
    image_index: np.ndarray,
    is_crowd: Bool[np.ndarray, " annotation"],
) -> Bool[np.ndarray, " annotation"]:
    """Whether an earlier annotation of the same image has the same box; crowd regions do not count."""
    columns = np.column_stack([boxes_xywh, image_index, is_crowd])
    ranked = np.lexsort(columns.T)
    is_same = (columns[ranked[1:]] == columns[ranked[:-1]]).all(axis=1) & ~is_crowd[ranked[1:]]
    found = np.zeros(len(columns), dtype=bool)
    found[ranked[1:][is_same]] = True
    return found


def _refuse_without_objects(raw: RawSplit, report: SplitReport) -> None:
    """Refuse a training split in which nothing is left to learn, and say why, unless a refusal says so already."""
    if not raw.is_crowd.all() or any(finding.action == "refused" for finding in report.findings):
        return
    if len(raw.labels):
        reason = (
            "there are only crowd regions (iscrowd 1), which are not trained on; set iscrowd to 0 for single objects"
        )
    elif report.totals["annotation"]:
        left_out = [finding.line() for finding in report.findings if "left out" in finding.text]
        reason = "; ".join(left_out) or "no annotation can be used"
    else:
        reason = "there are no annotations; export them again, with the objects"
    report.refuse("no_objects", f"no image has an object that can be learned: {reason}")
