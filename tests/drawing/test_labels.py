"""Where labels are placed, on cases small enough to see what is right."""

import itertools

import numpy as np
import pytest

from detr_lite.drawing.labels import place_labels

SIZE, IMAGE = (60, 16), (400, 300)


def overlap(first, second):
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)


def placed(boxes, size=SIZE, image=IMAGE, **options):
    return place_labels([size] * len(boxes), boxes, image, **options)


def test_no_boxes():
    assert placed([]) == []


def test_a_lone_box_has_its_label_above_it_at_its_left_edge():
    (label,) = placed([(100, 100, 200, 200)])
    assert label.rectangle == (100, 84, 160, 100)
    assert label.leader is None
    assert label.is_free


@pytest.mark.parametrize("box", [(0, 0, 30, 300), (0, 0, 400, 20), (0, 280, 400, 300), (370, 0, 400, 300)])
def test_at_the_edge_it_stays_in_the_image_and_beside_the_box(box):
    (label,) = placed([box])
    left, top, right, bottom = label.rectangle
    assert left >= 0
    assert top >= 0
    assert right <= 400
    assert bottom <= 300
    assert label.leader is None


def test_a_box_above_is_not_covered():
    above, below = (100, 60, 200, 98), (100, 100, 200, 200)
    labels = placed([below, above])
    assert all(overlap(label.rectangle, above) == 0 for label in labels)


def test_a_small_object_within_a_large_one_is_not_hidden():
    large, small = (0, 0, 400, 300), (0, 0, 55, 14)
    label = placed([large, small])[0]
    assert overlap(label.rectangle, small) == 0


def test_labels_of_equal_boxes_do_not_cover_each_other():
    labels = placed([(150, 120, 200, 160)] * 12)
    for first, second in itertools.combinations(labels, 2):
        assert overlap(first.rectangle, second.rectangle) == 0
    moved = [label for label in labels if label.leader is not None]
    assert moved, "not all have space beside the box"
    for label in moved:
        x, y = label.leader[2:]
        assert 150 <= x <= 200, "the line ends at the box"
        assert 120 <= y <= 160


def test_random_boxes_no_label_on_another_and_few_on_objects():
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 1, (15, 2)) * [340, 240]
    boxes = [(int(x), int(y), int(x) + 50, int(y) + 50) for x, y in corners]
    labels = placed(boxes)
    covered = sum(overlap(a.rectangle, b.rectangle) > 0 for a, b in itertools.combinations(labels, 2))
    above = [(x, max(0, y - 16), x + 60, max(16, y)) for x, y, _, _ in boxes]

    def hidden(rectangles):
        pairs = itertools.product(enumerate(rectangles), enumerate(boxes))
        return sum(overlap(tag, box) for (i, tag), (j, box) in pairs if i != j)

    assert covered == 0
    assert hidden([label.rectangle for label in labels]) < 0.5 * hidden(above)


def test_without_space_labels_are_not_free():
    labels = placed([(0, 0, 30, 20)] * 30, image=(70, 40), may_leave=False)
    assert not all(label.is_free for label in labels)
    assert all(label.leader is None for label in labels)


def test_a_label_larger_than_the_image():
    (label,) = placed([(0, 0, 3, 2)], image=(3, 2))
    assert label.rectangle[:2] == (0, 0)
