"""What every accepted split is, whatever its files were."""

import json

import numpy as np

from detr_lite.data.images.load import load_image
from detr_lite.data.records import Split
from detr_lite.data.split_cache import split_arrays, split_from_arrays
from detr_lite.text import STEERS

MAX_LENGTH = 10_000
"""Characters in a message."""


def assert_one_line(message: str) -> None:
    assert message
    assert not STEERS.search(message), repr(message[:200])
    assert len(message) < MAX_LENGTH, f"{len(message)} characters: {message[:200]}"


def assert_sound(split: Split, load: bool = True) -> None:
    """Indices and labels in their ranges, boxes finite and with an area, sizes those of the files that are loaded."""
    images, truth = split.images, split.ground_truth
    count, classes = len(images), len(split.categories)
    assert count == truth.num_images == len(split.image_ids) == len(images.sizes_wh) == len(images.ends) - 1
    assert count > 0
    assert (images.sizes_wh > 0).all()
    assert len({category.name for category in split.categories}) == classes
    for category in split.categories:
        assert_one_line(category.name)
    for labels in (images.labels, truth.labels):
        assert ((labels >= 0) & (labels < classes)).all()
    assert ((truth.image_index >= 0) & (truth.image_index < count)).all()
    assert np.isfinite(truth.boxes_xywh).all()
    assert (truth.boxes_xywh[:, 2:] > 0).all()
    assert np.isfinite(truth.areas).all()
    assert (truth.areas > 0).all()
    assert np.isfinite(images.boxes_xyxy).all()
    assert (images.boxes_xyxy[:, 2:] > images.boxes_xyxy[:, :2]).all()
    assert (images.boxes_xyxy >= 0).all()
    limits = np.repeat(images.sizes_wh, images.counts, axis=0)
    assert (images.boxes_xyxy[:, 2:] <= limits).all()
    assert (images.counts >= 0).all()
    assert images.counts.sum() == len(images.labels) == len(images.boxes_xyxy)
    for line in split.report.lines():
        assert_one_line(line)
    arrays, facts = split_arrays(split)
    again = split_from_arrays(arrays, json.loads(json.dumps(facts)))
    assert again.image_ids == split.image_ids
    assert again.report.to_dict() == split.report.to_dict()
    for record in images if load else ():
        assert load_image(record.path, (record.height, record.width)).size == (record.width, record.height)
