"""What costs AP most, in plain words."""

from collections.abc import Sequence
from dataclasses import dataclass

from detr_lite.evaluation.confusion import Confusion, swapped_pairs
from detr_lite.evaluation.data_faults import DataFault
from detr_lite.evaluation.duplicates import DuplicateCost
from detr_lite.evaluation.error_kinds import KINDS, ErrorCosts, ErrorKind
from detr_lite.structures import Category
from detr_lite.text import printable, shorten_middle

HEADLINES: dict[ErrorKind, str] = {
    "classification": "classes are confused",
    "localization": "boxes are off",
    "both": "class and box are wrong at once",
    "duplicate": "objects are detected more than once",
    "background": "detections are where no object is annotated",
    "missed": "objects are missed",
}

NEGLIGIBLE = 0.002
"""Kinds that cost less of AP50 and of AP75 are not named, nor those with less than 1 % of the cost of all kinds."""


ENTANGLED = 0.25
"""Where the kinds' costs at AP50 sum to less than this share of 1 - AP50, no kind explains the loss: TIDE corrects one
kind at a time, and the others still rank above what it corrects."""


@dataclass(frozen=True)
class Diagnosis:
    """What costs AP, the most first; before that likely faults of the annotations, which cause the errors."""

    first: str
    """What costs most, in one sentence."""
    lines: tuple[str, ...]
    """All of it, a sentence each; the first is `first`."""


def diagnose(
    categories: Sequence[Category],
    errors: Sequence[ErrorCosts],
    faults: Sequence[DataFault],
    confusion: Confusion,
    duplicates: DuplicateCost | None,
    detections: int,
) -> Diagnosis:
    """The diagnosis from parts of the analysis.

    Args:
        errors: at an IoU of 0.5 and of 0.75; none without objects.
        faults: the one that costs most first.
        detections: how many there are.

    The share of a kind is that of its cost in the sum over all kinds; a cost is the mean of those at both IoUs.
    """
    if not errors:
        lines = ["There is nothing to find: the ground truth has no objects."]
    elif not detections:
        lines = ["There is not a single detection."]
    else:
        lines = [_fault_line(fault) for fault in faults]
        lines += _all_kinds_line(errors) + _kind_lines(categories, errors, confusion, duplicates)
    return Diagnosis(lines[0], tuple(lines))


def _fault_line(fault: DataFault) -> str:
    end = "" if fault.text.endswith("?") else "."
    return f"{_sentence(fault.text)}{end} Undoing this would raise AP by {fault.gain:.3f}."


def _all_kinds_line(errors: Sequence[ErrorCosts]) -> list[str]:
    at_50 = errors[0]
    if sum(at_50.costs.values()) >= ENTANGLED * (1 - at_50.AP):
        return []
    return [
        f"Errors of all kinds come together (AP50 {at_50.AP:.3f}): to correct one kind alone gains little, as with a "
        "model that has trained too little."
    ]


def _kind_lines(
    categories: Sequence[Category], errors: Sequence[ErrorCosts], confusion: Confusion, duplicates: DuplicateCost | None
) -> list[str]:
    costs = {kind: sum(each.costs[kind] for each in errors) / len(errors) for kind in KINDS}
    total = sum(costs.values())
    lines = []
    for kind in sorted(KINDS, key=lambda kind: -costs[kind]):
        if max(each.costs[kind] for each in errors) < NEGLIGIBLE or costs[kind] < 0.01 * total:
            continue
        each_cost = " and ".join(f"{each.costs[kind]:.3f} of AP{100 * each.iou:g}" for each in errors)
        noun = "missed objects" if kind == "missed" else f"{kind} errors"
        if kind == "both":
            noun = "errors of both"
        share = f"{100 * costs[kind] / total:.0f} %"
        detail = _detail(kind, categories, confusion, duplicates)
        lines.append(f"{_sentence(HEADLINES[kind])}: {noun} are {share} of what errors cost ({each_cost}).{detail}")
    return lines or ["No error costs a noticeable part of AP."]


def _detail(
    kind: ErrorKind, categories: Sequence[Category], confusion: Confusion, duplicates: DuplicateCost | None
) -> str:
    if kind == "classification" and (pairs := swapped_pairs(confusion)):
        a, b, there, back = pairs[0]
        first, second = (shorten_middle(printable(categories[label].name), 48) for label in (a, b))
        times = f"{there + back:,} time{'s' if there + back > 1 else ''}"
        return f' Most often "{first}" and "{second}" are taken for each other ({times}).'
    if kind == "duplicate" and duplicates is not None:
        gain = duplicates.AP_with_nms - duplicates.AP
        if gain >= NEGLIGIBLE:
            return f" --nms {duplicates.nms:g} would raise AP by {gain:.3f}."
    return ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
