"""Entries of a report lead back to their image and annotation."""

import numpy as np

from detr_lite.data.checks.fault_places import Place, box_at, find_places
from detr_lite.data.records import RawSplit
from detr_lite.structures import Category


def raw() -> RawSplit:
    boxes = np.array([[1, 2, 3, 4], [5, 5, -2, 9], [np.nan] * 4, [1e300, 0, 1, 1]])
    return RawSplit(
        categories=(Category(1, "a"),),
        image_ids=[1, 2, 3],
        names=["a.jpg", "sub/b (2).jpg", "bell\x07.jpg"],
        paths=["/a.jpg", "/b.jpg", "/c.jpg"],
        sizes_wh=np.full((3, 2), 10.0),
        image_index=np.array([0, 2, 1, 1]),
        labels=np.zeros(4, dtype=np.int64),
        boxes_xywh=boxes,
        areas=np.ones(4),
        is_crowd=np.zeros(4, dtype=bool),
        origin=np.array([0, 2, 5, 6]),
        name_annotation=lambda origin: f"annotation {origin + 100}",
    )


def test_images_and_annotations() -> None:
    entries = ["annotation 105", "a.jpg", "sub/b (2).jpg (30 x 20)", "bell\\x07.jpg: not an image", "annotation 9"]
    assert find_places(raw(), entries) == {
        "annotation 105": Place(1, 2),
        "a.jpg": Place(0),
        "sub/b (2).jpg (30 x 20)": Place(1),
        "bell\\x07.jpg: not an image": Place(2),
    }
    assert find_places(raw(), []) == {}


def test_boxes_that_can_be_drawn() -> None:
    split = raw()
    assert box_at(split, Place(0, 0)) == (1, 2, 4, 6)
    assert box_at(split, Place(2, 1)) == (5, 5, 3, 14), "as the file has it: turned round"
    assert [box_at(split, place) for place in (Place(1), Place(1, 2), Place(1, 3))] == [None] * 3
