"""Likely label errors by cases worked by hand, one kind each, and none where detections agree with the labels."""

import pytest

from detr_lite.evaluation.label_errors import LabelError, find_label_errors
from tests.helpers.arrays import found, truth

BOX, FAR = (10.0, 10.0, 40.0, 20.0), (200.0, 100.0, 30.0, 30.0)


def corners(box: tuple[float, ...]) -> tuple[float, ...]:
    return (box[0], box[1], box[0] + box[2], box[1] + box[3])


def test_detections_that_agree() -> None:
    moved = (12.0, 10.0, 40.0, 20.0)
    objects = truth((0, 1, BOX), (1, 0, FAR))
    assert find_label_errors(objects, found((0, 1, moved, 0.9), (0, 2, BOX, 0.3), (1, 0, FAR, 0.6))) == []


def test_another_class() -> None:
    errors = find_label_errors(truth((1, 2, BOX)), found((1, 0, BOX, 0.8), (1, 2, BOX, 0.3), (1, 1, BOX, 0.6)))
    assert errors == [LabelError("wrong_class", 1, corners(BOX), 0, 0.8, 0)], "the most confident detection alone"


def test_no_error_where_the_models_first_choice_is_the_label() -> None:
    assert find_label_errors(truth((0, 2, BOX)), found((0, 2, BOX, 0.9), (0, 1, BOX, 0.8))) == []


def test_a_missing_label_is_told_once() -> None:
    again = (202.0, 101.0, 30.0, 30.0)
    errors = find_label_errors(
        truth((0, 0, BOX)), found((0, 0, BOX, 0.9), (0, 1, again, 0.6), (0, 0, FAR, 0.7), (0, 0, (90, 90, 9, 9), 0.4))
    )
    assert errors == [LabelError("missing_label", 0, corners(FAR), 0, 0.7, None)], "0.4 is not confident"


def test_an_object_that_is_not_found() -> None:
    large = (50.0, 50.0, 100.0, 100.0)
    errors = find_label_errors(truth((0, 0, FAR), (0, 1, large), (1, 0, BOX)), found((1, 2, BOX, 0.06)))
    assert errors == [
        LabelError("unfound", 0, corners(large), 1, 0.0, 1),
        LabelError("unfound", 0, corners(FAR), 0, 0.0, 0),
    ], "the larger one first; one that is noticed in another class is none"


def test_crowds_are_no_objects() -> None:
    region = (0.0, 0.0, 300.0, 300.0)
    assert find_label_errors(truth((0, 0, region), crowd=(0,)), found((0, 1, FAR, 0.9))) == []


def test_the_most_confident_come_first() -> None:
    errors = find_label_errors(
        truth((0, 0, BOX), (1, 0, FAR)), found((0, 1, BOX, 0.6), (0, 0, FAR, 0.95), (1, 1, BOX, 0.7))
    )
    assert [(error.kind, error.score) for error in errors] == [
        ("missing_label", 0.95),
        ("missing_label", 0.7),
        ("wrong_class", 0.6),
        ("unfound", 0.0),
    ]


@pytest.mark.parametrize("images", [0, 3])
def test_nothing(images: int) -> None:
    assert find_label_errors(truth(images=images), found()) == []


def test_another_score_to_count_from() -> None:
    low = found((0, 0, FAR, 0.3), (0, 0, BOX, 0.02))
    assert find_label_errors(truth(), low) == []
    assert [error.score for error in find_label_errors(truth(), low, confident=0.3)] == [0.3]
    assert [error.score for error in find_label_errors(truth(), low, confident=0.02)] == [0.3, 0.02]
