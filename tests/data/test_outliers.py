"""Odd boxes: planted ones are found first, sound data have none, near duplicates are those of torchvision's IoU."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert, box_iou

from detr_lite.data.analysis.outliers import OddBox, find_odd_boxes, near_duplicates
from tests.helpers.raw_splits import Row, random_raw_split, raw_split, reorder, split_of


def rows_of_alike_boxes(count: int = 60) -> list[Row]:
    """One box of about 60 x 40 pixels in each image of 640 x 480, near its middle."""
    generator = np.random.default_rng(1)
    width, height = generator.normal(60, 6, count), generator.normal(40, 4, count)
    x, y = generator.normal(290, 20, count), generator.normal(220, 20, count)
    rows = zip(range(count), [0] * count, x.tolist(), y.tolist(), width.tolist(), height.tolist(), strict=True)
    return list(rows)


def odd_boxes(rows: list[Row], images: int = 60) -> list[OddBox]:
    return find_odd_boxes(split_of(raw_split(rows, sizes_wh=[(640, 480)] * images)))


def test_sound_boxes_are_not_odd() -> None:
    assert odd_boxes(rows_of_alike_boxes()) == []


@pytest.mark.parametrize(
    ("box", "kind", "words"),
    [
        ((100.0, 100.0, 360.0, 240.0), "size", "cell of 360 x 240 pixels, 6.0 times the usual size"),
        ((315.0, 235.0, 12.0, 8.0), "size", "0.2 times"),
        ((300.0, 200.0, 20.0, 120.0), "aspect", "width / height 0.17, usually 1.5"),
        ((570.0, 220.0, 60.0, 40.0), "position", "cell at 94% of the image's width, usually near 50%"),
        ((290.0, 430.0, 60.0, 40.0), "position", "of the image's height"),
    ],
)
def test_a_box_unlike_its_class_is_found(box: tuple[float, float, float, float], kind: str, words: str) -> None:
    rows = rows_of_alike_boxes()
    rows[17] = (17, 0, *box)

    (odd,) = odd_boxes(rows)

    assert (odd.image, odd.object, odd.kind) == (17, 17, kind)
    assert words in odd.reason
    assert odd.severity > 1


def test_a_box_at_the_border_counts_half() -> None:
    inside, cut = rows_of_alike_boxes(), rows_of_alike_boxes()
    inside[17] = (17, 0, 2.0, 220.0, 60.0, 40.0)
    cut[17] = (17, 0, 0.0, 220.0, 60.0, 40.0)
    assert odd_boxes(inside)[0].severity > 1.5 * odd_boxes(cut)[0].severity
    assert odd_boxes(cut)[0].reason.endswith("(at the image's border)")


def test_few_objects_of_a_class_have_no_usual_size() -> None:
    rows = [*rows_of_alike_boxes(15)[:14], (14, 0, 0.0, 0.0, 640.0, 480.0)]
    assert odd_boxes(rows, images=15) == []


def test_classes_are_judged_apart_and_crowds_not_at_all() -> None:
    large = [(image, 1, 10.0, 10.0, 600.0, 440.0) for image in range(60)]
    rows = rows_of_alike_boxes() + large
    assert odd_boxes(rows) == []
    raw = raw_split([*rows, (3, 0, 0.0, 0.0, 640.0, 480.0)], sizes_wh=[(640, 480)] * 60)
    raw.is_crowd[-1] = True
    assert find_odd_boxes(split_of(raw)) == []


def test_tiny_boxes_and_those_that_leave_the_image_are_found() -> None:
    tiny, outside = odd_boxes([(0, 0, 5.0, 5.0, 0.5, 30.0), (1, 0, 600.0, 5.0, 80.0, 30.0)])[::-1]
    assert (outside.kind, outside.object) == ("outside", 1)
    assert outside.reason == "cell reaches 40 pixels beyond its image"
    assert (tiny.kind, tiny.object, tiny.severity) == ("tiny", 0, 1.75)


def test_near_duplicates_of_one_class_and_of_two() -> None:
    rows: list[Row] = [
        (0, 0, 10, 10, 100, 100),
        (0, 0, 11, 10, 100, 100),
        (1, 0, 10, 10, 100, 100),
        (2, 1, 50, 50, 40, 40),
        (2, 2, 50, 50, 40, 40),
    ]
    two_classes, repeated = odd_boxes(rows, images=3)
    assert (two_classes.kind, two_classes.object, two_classes.other, two_classes.severity) == ("two_classes", 4, 3, 3.0)
    assert two_classes.reason == "tree and bolt at one place: the boxes overlap by 100% (IoU)"
    assert (repeated.kind, repeated.image, repeated.object, repeated.other) == ("near_duplicate", 0, 1, 0)


@pytest.mark.parametrize("min_iou", [0.3, 0.7, 0.9])
def test_near_duplicates_are_those_of_torchvision(min_iou: float) -> None:
    raw = random_raw_split(5, images=6, per_image=60.0)
    moved = raw.boxes_xywh + np.random.default_rng(5).normal(0, 3, raw.boxes_xywh.shape)
    rows = np.concatenate([raw.boxes_xywh, np.maximum(moved, 1)])
    both = [raw.image_index] * 2, [raw.labels] * 2, [raw.is_crowd] * 2
    truth = split_of(raw).ground_truth
    truth = replace(
        truth, image_index=np.concatenate(both[0]), labels=np.concatenate(both[1]), boxes_xywh=rows,
        areas=rows[:, 2:].prod(axis=1), is_crowd=np.concatenate(both[2]),
    )  # fmt: skip

    pairs, ious = near_duplicates(truth, min_iou)

    boxes = box_convert(torch.from_numpy(rows), "xywh", "xyxy")
    same_image = truth.image_index[:, None] == truth.image_index
    either_crowd = truth.is_crowd[:, None] | truth.is_crowd
    expected = np.tril(np.where(same_image & ~either_crowd, box_iou(boxes, boxes).numpy(), 0), -1)
    assert len(pairs) > 20
    np.testing.assert_array_equal(pairs, np.argwhere(expected > min_iou))
    np.testing.assert_allclose(ious, expected[expected > min_iou])


@pytest.mark.parametrize("sizes", [[], [(640, 480)]])
def test_a_split_without_objects_has_no_odd_box(sizes: list[tuple[int, int]]) -> None:
    assert find_odd_boxes(split_of(raw_split([], sizes_wh=sizes))) == []


def test_the_order_of_the_annotations_does_not_matter() -> None:
    raw = random_raw_split(7, images=40, per_image=12.0)
    order = np.random.default_rng(0).permutation(len(raw.labels))
    shuffled = reorder(raw, order)
    found = find_odd_boxes(split_of(raw))
    again = find_odd_boxes(split_of(shuffled))
    assert sorted((odd.kind, odd.object) for odd in found) == sorted(
        (odd.kind, int(order[odd.object])) for odd in again
    )


def test_a_column_of_a_thousand_boxes_and_100000_images_take_a_moment() -> None:
    """Not timed: a quadratic search would need 80 GB."""
    rows: list[Row] = [(0, 0, 5.0, 2.0 * place, 20.0, 1.5) for place in range(1000)]
    pairs, _ = near_duplicates(split_of(raw_split(rows, sizes_wh=[(100, 3000)])).ground_truth)
    assert len(pairs) == 0
    many: list[Row] = [(image, 0, 5.0, 5.0, 20.0, 20.0) for image in range(100_000)]
    pairs, _ = near_duplicates(split_of(raw_split(many, sizes_wh=[(100, 100)] * 100_000)).ground_truth)
    assert len(pairs) == 0
