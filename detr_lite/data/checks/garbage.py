"""Recognizes annotations that are wrong as a whole, such as corners in place of sizes.

Every rule here was tried on the blood cells of BCCD, the circuit boards of DeepPCB and drawn datasets of many kinds
(full-frame boxes, one centered object per image, aerial images, amodal boxes, fixed cameras; see the tests), of which
none may be refused: that is worse than to miss a fault, which may still show in the report's notes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from detr_lite.data.checks.box_formats import MIN_OBJECTS, find_reading
from detr_lite.data.records import RawSplit
from detr_lite.data.report import SplitReport

REFUSED = frozenset({"relative_boxes", "scaled_boxes", "other_reading", "same_boxes", "boxes_at_origin"})
"""The kinds of findings that `refuse_garbage` refuses."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of a split that say something about all of them: finite, with an area; and their images' sizes."""

    boxes_xywh: Float64[np.ndarray, "object 4"]
    limits_wh: Float64[np.ndarray, "object 2"]
    image_index: np.ndarray
    labels: np.ndarray

    def reach(self) -> Float64[np.ndarray, "object 2"]:
        """The right and the lower edge of each box."""
        return np.asarray(self.boxes_xywh[:, :2] + self.boxes_xywh[:, 2:])

    @property
    def num_images(self) -> int:
        """Images with such a box."""
        return int(np.count_nonzero(np.bincount(self.image_index)))


def refuse_garbage(raw: RawSplit, report: SplitReport) -> None:
    """Refuse a split whose boxes as a whole cannot be what COCO calls boxes; note what only looks odd.

    Called before single annotations are judged; all sizes of images must be known. The first rule that applies is the
    only one that speaks. Boxes between 0 and 1 are certain even where there is one box; the other rules ask for 5 boxes
    that leave their image, 20 boxes, or 10 images.
    """
    boxes = _judged(raw)
    if not len(boxes.boxes_xywh):
        return
    is_relative = find_relative_boxes(raw)
    if 2 * is_relative.sum() >= len(boxes.boxes_xywh):
        text = f"{_share(int(is_relative.sum()), len(boxes.boxes_xywh))} lie between 0 and 1: they are relative to the "
        text += "image; multiply x and width by the image's width, y and height by its height"
        found = find_reading(boxes.boxes_xywh * np.tile(boxes.limits_wh, 2), boxes.limits_wh)
        report.refuse("relative_boxes", text if found is None else f"{text}; besides, {found[1]}")
        return
    if _refuse_scale(boxes, report) or _refuse_reading(boxes, report) or _refuse_constant(boxes, report):
        return
    _note_oddities(boxes, report)


def is_garbage(report: SplitReport) -> bool:
    """Whether `refuse_garbage` refused the split."""
    return any(finding.kind in REFUSED for finding in report.findings)


def find_relative_boxes(raw: RawSplit) -> Bool[np.ndarray, " annotation"]:
    """Whether each box is of four numbers from 0 to 1, in an image of at least 8 x 8 pixels, where no object is so."""
    is_within = ((raw.boxes_xywh >= 0) & (raw.boxes_xywh <= 1.01)).all(axis=1) & (raw.boxes_xywh[:, 2:] > 0).all(axis=1)
    return np.asarray(is_within & (raw.sizes_wh[raw.image_index] >= 8).all(axis=1))


def _judged(raw: RawSplit) -> Boxes:
    with np.errstate(invalid="ignore"):
        is_judged = (np.abs(raw.boxes_xywh) < 1e12).all(axis=1) & (raw.boxes_xywh[:, 2:] != 0).all(axis=1)
    image_index = raw.image_index[is_judged]
    return Boxes(raw.boxes_xywh[is_judged], raw.sizes_wh[image_index], image_index, raw.labels[is_judged])


def _refuse_scale(boxes: Boxes, report: SplitReport) -> bool:
    """Percent, or thousandths as vision-language models write them, of images that are larger.

    No box exceeds 100 (1,000) by more than 1 %, but both x and y come within 5 % of that, while most images are at
    least half as large again on one side and as large on the other. Honest boxes that keep to the upper left part of
    their images would have to end there, on both sides, by chance.
    """
    if len(boxes.boxes_xywh) < 20 or (boxes.boxes_xywh < 0).any():
        return False
    reach = boxes.reach().max(axis=0)
    for unit, name in ((100.0, "percent"), (1000.0, "thousandths")):
        is_larger = (boxes.limits_wh >= unit).all(axis=1) & (boxes.limits_wh >= 1.5 * unit).any(axis=1)
        if (reach <= 1.01 * unit).all() and (reach > 0.95 * unit).all() and is_larger.mean() > 0.95:
            report.refuse(
                "scaled_boxes",
                f"no box reaches beyond {unit:,.0f}, though the images are larger: the boxes look like {name} of the "
                f"image; multiply x and width by the image's width / {unit:.0f}, y and height by its height / "
                f"{unit:.0f}",
            )
            return True
    return False


def _refuse_reading(boxes: Boxes, report: SplitReport) -> bool:
    """Boxes that leave their images as [x, y, width, height], and do not in another reading (`find_reading`)."""
    found = find_reading(boxes.boxes_xywh, boxes.limits_wh)
    if found is None:
        return False
    is_leaving, text = found
    report.refuse("other_reading", f"{_share(int(is_leaving.sum()), len(is_leaving))} leave their image: {text}")
    return True


def _refuse_constant(boxes: Boxes, report: SplitReport) -> bool:
    """The same objects in all images, to the last digit, or the same corner (0, 0): written by a faulty program.

    A fixed camera before fixed objects gives boxes that differ by pixels, if people drew them. Where a box that is
    drawn once holds one of several classes (a gauge, a parking space), the class is learned, and that is honest.
    Boxes that cover their images are honest too.
    """
    if boxes.num_images < 10 or _covers_image(boxes).mean() > 0.5:
        return False
    pixels, relative = boxes.boxes_xywh, boxes.boxes_xywh / np.tile(boxes.limits_wh, 2)
    is_one_box = any(np.ptp(values, axis=0).max() < 1e-9 * max(1.0, values.max()) for values in (pixels, relative))
    if (is_one_box and len(pixels) > boxes.num_images) or _repeats(boxes, pixels) or _repeats(boxes, relative):
        x, y, width, height = pixels[0].tolist()
        report.refuse(
            "same_boxes",
            f"all images are annotated alike, to the last digit ({len(pixels):,} boxes; the first is [{x:g}, {y:g}, "
            f"{width:g}, {height:g}]), which would teach nothing but these places; export the annotations again",
        )
        return True
    if not is_one_box and (pixels[:, :2] == 0).all():
        report.refuse(
            "boxes_at_origin",
            f"all {len(pixels):,} boxes begin at x = 0, y = 0; export the annotations again, with the places of the "
            "objects",
        )
        return True
    return False


def _repeats(boxes: Boxes, values: Float64[np.ndarray, "object 4"]) -> bool:
    """Whether all images with objects have the same boxes of the same classes."""
    counts = np.bincount(boxes.image_index)
    counts = counts[counts > 0]
    if (counts != counts[0]).any():
        return False
    rows = np.column_stack([values, boxes.labels])
    by_image = rows[np.lexsort([*rows.T, boxes.image_index])].reshape(len(counts), -1, 5)
    return bool(np.ptp(by_image, axis=0).max() < 1e-9 * max(1.0, values.max()))


def _note_oddities(boxes: Boxes, report: SplitReport) -> None:
    """What honest datasets may look like, too: it is said, and nothing is done about it."""
    count = len(boxes.boxes_xywh)
    if count < MIN_OBJECTS:
        return
    covering = int(_covers_image(boxes).sum())
    if covering >= 0.9 * count:
        report.note(
            "full_frame",
            f"{_share(covering, count)} cover their whole image, as in a dataset for classification: a model learns "
            "from them which classes there are, but not where",
        )
        return
    reach = (boxes.reach() / boxes.limits_wh).max(axis=0)
    if count >= 50 and boxes.num_images >= 20 and (reach < 0.6).all():
        report.note(
            "upper_left",
            f"all boxes lie in the left {reach[0]:.0%} and the upper {reach[1]:.0%} of their images; check that they "
            "refer to images of this size",
        )
    if count >= 20 and len(np.unique(boxes.labels)) == count:
        report.note("own_classes", f"each of the {count:,} objects has a class of its own; check the classes")


def _covers_image(boxes: Boxes) -> Bool[np.ndarray, " object"]:
    """Whether a box takes at least 98 % of both sides of its image."""
    return np.asarray((boxes.boxes_xywh[:, 2:] >= 0.98 * boxes.limits_wh).all(axis=1))


def _share(count: int, total: int) -> str:
    return f"all {total:,} boxes" if count == total else f"{count:,} of {total:,} boxes"
