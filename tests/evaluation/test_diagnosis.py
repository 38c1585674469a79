"""The diagnosis names what costs most first, in words."""

from dataclasses import replace

import numpy as np

from detr_lite.evaluation.confusion import Confusion
from detr_lite.evaluation.data_faults import DataFault
from detr_lite.evaluation.diagnosis import HEADLINES, diagnose
from detr_lite.evaluation.duplicates import DuplicateCost
from detr_lite.evaluation.error_kinds import KINDS, ErrorCosts, ErrorKind
from detr_lite.structures import Category

CATS = (Category(1, "cat"), Category(2, "do\x1bg"))
CONFUSION = Confusion(np.array([[9, 2, 0], [1, 9, 0], [0, 0, 0]]), 0.4, 0.5)


def costs(iou: float, **of_kinds: float) -> ErrorCosts:
    listed: dict[ErrorKind, float] = {kind: of_kinds.get(kind, 0.0) for kind in KINDS}
    return ErrorCosts(iou, 0.5, listed, dict.fromkeys(KINDS, 1), 0.1, 0.1)


def test_kinds_in_the_order_of_their_cost() -> None:
    errors = (costs(0.5, missed=0.2, localization=0.01), costs(0.75, missed=0.06, localization=0.31, both=0.001))
    diagnosis = diagnose(CATS, errors, [], CONFUSION, None, 5)
    assert diagnosis.lines == (
        "Boxes are off: localization errors are 55 % of what errors cost (0.010 of AP50 and 0.310 of AP75).",
        "Objects are missed: missed objects are 45 % of what errors cost (0.200 of AP50 and 0.060 of AP75).",
    ), "what costs next to nothing is not named"
    assert diagnosis.first == diagnosis.lines[0]


def test_details() -> None:
    errors = (costs(0.5, classification=0.2, duplicate=0.1), costs(0.75))
    duplicates = DuplicateCost(0.4, 5, 0.3, 0.34, 0.5, 0.6, 0.7, 0.7)
    classification, duplicate = diagnose(CATS, errors, [], CONFUSION, duplicates, 5).lines
    assert classification.endswith('. Most often "cat" and "do\\x1bg" are taken for each other (3 times).')
    assert duplicate.endswith(". --nms 0.7 would raise AP by 0.040.")


def test_a_model_that_has_learned_little() -> None:
    errors = tuple(replace(costs(iou, missed=0.02), AP=0.01) for iou in (0.5, 0.75))
    lines = diagnose(CATS, errors, [], CONFUSION, None, 5).lines
    assert lines[0].startswith("Errors of all kinds come together (AP50 0.010): ")
    assert lines[1].startswith("Objects are missed: missed objects are 100 %")


def test_faults_of_annotations_come_first() -> None:
    faults = [DataFault("shifted", "boxes lie elsewhere", 0.2), DataFault("swapped", '"a" and "b": swapped?', 0.1)]
    lines = diagnose(CATS, (costs(0.5, missed=0.9), costs(0.75)), faults, CONFUSION, None, 5).lines
    assert lines[:2] == (
        "Boxes lie elsewhere. Undoing this would raise AP by 0.200.",
        '"a" and "b": swapped? Undoing this would raise AP by 0.100.',
    )
    assert lines[2].startswith("Objects are missed")


def test_nothing_to_say() -> None:
    assert diagnose(CATS, (), [], CONFUSION, None, 5).first == (
        "There is nothing to find: the ground truth has no objects."
    )
    assert diagnose(CATS, (costs(0.5), costs(0.75)), [], CONFUSION, None, 0).first == "There is not a single detection."
    perfect = tuple(replace(costs(iou), AP=1.0) for iou in (0.5, 0.75))
    assert diagnose(CATS, perfect, [], CONFUSION, None, 5).lines == ("No error costs a noticeable part of AP.",)


def test_each_kind_has_words() -> None:
    assert set(HEADLINES) == set(KINDS)
