"""Whatever the sizes of image and objects: finite pixels, boxes with an area in the image, and an object left."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from detr_lite.data.augmentation.mixing import MixingTransform
from detr_lite.data.augmentation.settings import PRESETS
from detr_lite.data.augmentation.training import training_transform
from detr_lite.data.transforms import ResizeRule

PHOTOGRAPHS = replace(PRESETS["photographs"], blur=0.3, jpeg=0.3, zoom_out=0.3, vertical_flip=0.5, scale_jitter=2.0)
ALL = replace(PHOTOGRAPHS, mosaic=0.4, mixup=0.4, copy_paste=0.8)
RULES = [ResizeRule("longest", 64), ResizeRule("fit", 96), ResizeRule("shortest", 48, 80)]


def random_sample(rng: random.Random) -> tuple[Image.Image, tv_tensors.BoundingBoxes, torch.Tensor]:
    height, width = rng.choice([1, 2, 3, 5, 17, 60, 300]), rng.choice([1, 2, 3, 5, 17, 60, 300])
    boxes_xyxy = []
    for _ in range(rng.choice([0, 1, 3, 7])):
        left, top = rng.uniform(0, width * 0.99), rng.uniform(0, height * 0.99)
        sides = [rng.choice([0.01, 0.5, 3, 1000]) for _ in range(2)]
        boxes_xyxy.append([left, top, min(width, left + sides[0]), min(height, top + sides[1])])
    boxes = torch.tensor(boxes_xyxy, dtype=torch.float32).reshape(-1, 4)
    pixels = np.full((height, width, 3), rng.randrange(256), dtype=np.uint8)
    return (
        Image.fromarray(pixels),
        tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),
        torch.arange(len(boxes)),
    )


@pytest.mark.parametrize("augmentation", [PHOTOGRAPHS, ALL], ids=["photographs", "mixed"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
@pytest.mark.slow
def test_of_any_size(augmentation: Any, rule: ResizeRule) -> None:
    rng = random.Random(0)
    transform = training_transform(augmentation, rule)
    for seed in range(250):
        sample = random_sample(rng)
        torch.manual_seed(seed)
        others = (lambda: random_sample(rng),) if isinstance(transform, MixingTransform) else ()
        image, boxes, labels = transform(*sample, *others)
        height, width = rule.target_size(sample[0].height, sample[0].width)
        assert 1 <= image.shape[1] <= height
        assert 1 <= image.shape[2] <= width
        assert image.isfinite().all()
        assert boxes.shape == (len(labels), 4)
        assert (boxes >= -1e-3).all()
        assert (boxes <= torch.tensor([image.shape[2], image.shape[1]] * 2) + 1e-3).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert len(labels) > 0 or len(sample[2]) == 0
