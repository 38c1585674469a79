"""Sizes in tokens are those that boxes have after the transform that training applies."""

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from detr_lite.data.analysis.object_scale import object_tokens
from detr_lite.data.packed import PackedStrings
from detr_lite.data.records import ImageRecords
from detr_lite.data.transforms import ResizeByRule, ResizeRule

RULES = [ResizeRule("longest", 100), ResizeRule("fit", 320), ResizeRule("shortest", 64, 90)]


def records(sizes: list[tuple[int, int]], counts: list[int]) -> ImageRecords:
    generator = np.random.default_rng(0)
    low = generator.uniform(0, 20, (sum(counts), 2))
    boxes = np.concatenate([low, low + generator.uniform(1, 20, low.shape)], axis=1).astype(np.float32)
    ends = np.cumsum([0, *counts]).astype(np.int64)
    paths = PackedStrings([f"{number}.png" for number in range(len(sizes))])
    labels = np.zeros(len(boxes), dtype=np.int64)
    return ImageRecords(paths, np.array(sizes, dtype=np.int32).reshape(-1, 2), boxes, labels, ends)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_as_the_transform_resizes_boxes(rule: ResizeRule) -> None:
    images = records([(200, 80), (60, 41), (200, 80), (90, 300)], [2, 3, 0, 4])
    expected = []
    for image in images:
        boxes = tv_tensors.BoundingBoxes(
            torch.tensor(image.boxes_xyxy), format="XYXY", canvas_size=(image.height, image.width)
        )
        pixels = tv_tensors.Image(torch.zeros(3, image.height, image.width, dtype=torch.uint8))
        resized = ResizeByRule(rule)(pixels, boxes)[1]
        expected += [float(torch.sqrt((box[2] - box[0]) * (box[3] - box[1]))) / 16 for box in resized]
    np.testing.assert_allclose(object_tokens(images, rule, 16), expected, rtol=1e-5)


@pytest.mark.parametrize("sizes", [[], [(30, 20)]])
def test_no_objects(sizes: list[tuple[int, int]]) -> None:
    assert object_tokens(records(sizes, [0] * len(sizes)), RULES[0], 8).shape == (0,)
