"""Transforms against torchvision, and boxes against the pixels that they enclose."""

import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from detr_lite.data.augmentation.detr import RandomSizeCrop
from detr_lite.data.augmentation.settings import PRESETS
from detr_lite.data.augmentation.training import training_transform
from detr_lite.data.transforms import MEAN, STD, Normalize, ResizeRule, evaluation_transform
from detr_lite.structures import DetrLiteError

LONGEST = ResizeRule("longest", 128)
ORIGINAL = ResizeRule("shortest", 800, 1333)
SMALL = ResizeRule("shortest", 160, 267)
"""The original's rule at a fifth of its size, for speed."""


def drawn(height: int, width: int, boxes_xyxy: list[list[int]]) -> tuple[Image.Image, tv_tensors.BoundingBoxes, Tensor]:
    """A grey image with a filled rectangle per box; the labels count up."""
    pixels = np.full((height, width, 3), 100, dtype=np.uint8)
    for left, top, right, bottom in boxes_xyxy:
        pixels[top:bottom, left:right] = 255
    boxes = torch.tensor(boxes_xyxy, dtype=torch.float32).reshape(-1, 4)
    return (
        Image.fromarray(pixels),
        tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),
        torch.arange(len(boxes)),
    )


def bright_extent(image: Tensor) -> Tensor:
    """(x0, y0, x1, y1) around the pixels that are brighter than half-way from the background to the rectangle."""
    level = (torch.tensor([100.0, 255.0]).mean() / 255 - MEAN[0]) / STD[0]
    rows, columns = torch.where(image[0] > level)
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


# --- the resize rule


def test_shortest_equals_torchvisions_resize() -> None:
    rng = random.Random(0)
    for _ in range(300):
        height, width = rng.randint(20, 900), rng.randint(20, 900)
        size = rng.randint(5, 60)
        max_size = rng.choice([None, size + rng.randint(1, 60)])
        if max_size is not None and max_size * min(height, width) < max(height, width):
            continue  # torchvision fails on a side of 0 pixels
        # A broadcast pixel: torchvision resizes it for real, at no memory.
        image = tv_tensors.Image(torch.zeros(1, 1, 1, dtype=torch.uint8).expand(1, height, width))
        expected = v2.Resize(size, max_size=max_size)(image).shape[-2:]
        assert ResizeRule("shortest", size, max_size).target_size(height, width) == tuple(expected)


def test_longest_equals_torchvisions_resize_for_larger_images() -> None:
    rng = random.Random(0)
    for _ in range(300):
        height, width, size = rng.randint(20, 600), rng.randint(20, 600), rng.randint(30, 300)
        result = ResizeRule("longest", size).target_size(height, width)
        if max(height, width) <= size:
            assert result == (height, width)
        else:
            image = tv_tensors.Image(torch.zeros(1, 1, 1, dtype=torch.uint8).expand(1, height, width))
            assert result == tuple(v2.Resize(None, max_size=size)(image).shape[-2:])


def test_fit_equals_torchvisions_resize_of_the_longer_side() -> None:
    rng = random.Random(0)
    for _ in range(300):
        height, width, size = rng.randint(20, 600), rng.randint(20, 600), rng.randint(30, 900)
        image = tv_tensors.Image(torch.zeros(1, 1, 1, dtype=torch.uint8).expand(1, height, width))
        expected = tuple(v2.Resize(None, max_size=size)(image).shape[-2:])
        assert ResizeRule("fit", size).target_size(height, width) == expected


@pytest.mark.parametrize(
    ("rule", "size", "expected"),
    [
        (ORIGINAL, (480, 640), (800, 1066)),
        (ORIGINAL, (640, 480), (1066, 800)),
        (ORIGINAL, (333, 500), (800, 1201)),
        (ORIGINAL, (200, 640), (416, 1333)),
        (ORIGINAL, (500, 500), (800, 800)),
        (ResizeRule("longest", 256), (100, 256), (100, 256)),
        (ResizeRule("longest", 256), (480, 640), (192, 256)),
        (ResizeRule("longest", 10), (1, 1000), (1, 10)),
        (ResizeRule("fit", 256), (100, 200), (128, 256)),
        (ResizeRule("fit", 256), (640, 480), (256, 192)),
        (ResizeRule("fit", 10), (1, 1000), (1, 10)),
        (ResizeRule("shortest", 10, 20), (1, 1000), (1, 20)),
    ],
)
def test_target_sizes_by_hand(rule: ResizeRule, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert rule.target_size(*size) == expected


@pytest.mark.parametrize("rule", [LONGEST, ORIGINAL, ResizeRule("fit", 160)])
def test_rule_to_dict_and_back(rule: ResizeRule) -> None:
    values = rule.to_dict()
    assert {type(value) for value in values.values()} <= {str, int, type(None)}
    assert ResizeRule.from_dict(values) == rule


@pytest.mark.parametrize(
    "make",
    [
        lambda: ResizeRule.from_dict({"kind": "square", "size": 100, "max_size": None}),
        lambda: ResizeRule("longest", 0),
        lambda: ResizeRule("longest", 100, 200),
        lambda: ResizeRule("fit", 100, 200),
        lambda: ResizeRule("shortest", 800, 800),
        lambda: training_transform(PRESETS["detr"], LONGEST),
    ],
)
def test_impossible_settings_are_refused_in_one_line(make: Callable[[], Any]) -> None:
    with pytest.raises(DetrLiteError) as error:
        make()
    assert "\n" not in str(error.value)


# --- evaluation


@pytest.mark.parametrize("rule", [LONGEST, SMALL, ResizeRule("longest", 400), ResizeRule("fit", 400)])
@pytest.mark.parametrize("objects", [0, 1, 7])
def test_evaluation_transform_equals_torchvisions(rule: ResizeRule, objects: int) -> None:
    boxes_xyxy = [[10 * index, 5, 30 + 20 * index, 40 + index] for index in range(objects)]
    sample = drawn(150, 200, boxes_xyxy)
    image, boxes, labels = evaluation_transform(rule)(*sample)

    height, width = rule.target_size(150, 200)
    reference = v2.Compose([v2.ToImage(), v2.Resize((height, width)), v2.ToDtype(torch.float32, scale=True)])
    expected_image, expected_boxes, _ = reference(*sample)
    torch.testing.assert_close(image, v2.Normalize(MEAN, STD)(expected_image).as_subclass(Tensor))
    torch.testing.assert_close(boxes, expected_boxes.as_subclass(Tensor))
    grown = sample[1].as_subclass(Tensor) * torch.tensor([width / 200, height / 150] * 2)
    torch.testing.assert_close(boxes, grown)
    assert labels.tolist() == list(range(objects))
    assert type(image) is type(boxes) is type(labels) is Tensor
    assert image.dtype == torch.float32
    assert image.is_contiguous()


def test_evaluation_transform_of_an_image_alone() -> None:
    picture, boxes, labels = drawn(150, 200, [[10, 20, 60, 90]])
    alone = evaluation_transform(LONGEST)(picture)
    torch.testing.assert_close(alone, evaluation_transform(LONGEST)(picture, boxes, labels)[0], rtol=0, atol=0)


def test_mean_and_std_are_used() -> None:
    picture, _, _ = drawn(20, 20, [])
    image = evaluation_transform(LONGEST, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))(picture)
    expected = (torch.tensor([100 / 255] * 3) - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.5, 0.25, 0.2])
    torch.testing.assert_close(image.mean(dim=(1, 2)), expected)


# --- training


def test_none_equals_the_evaluation_transform() -> None:
    sample = drawn(150, 200, [[10, 20, 60, 90]])
    for actual, expected in zip(
        training_transform(PRESETS["none"], SMALL)(*sample), evaluation_transform(SMALL)(*sample), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize(("preset", "rule"), [("light", LONGEST), ("light", SMALL), ("detr", SMALL)])
@pytest.mark.parametrize("objects", [0, 1, 7])
def test_any_number_of_objects(preset: Any, rule: ResizeRule, objects: int) -> None:
    transform = training_transform(PRESETS[preset], rule)
    torch.manual_seed(0)
    for _ in range(10):
        image, boxes, labels = transform(*drawn(150, 200, [[9 * i, 5, 90 + 9 * i, 140] for i in range(objects)]))
        assert image.dtype == boxes.dtype == torch.float32
        assert boxes.shape == (len(labels), 4)
        assert labels.dtype == torch.int64
        if preset == "light":
            assert labels.tolist() == list(range(objects))


@pytest.mark.parametrize(("preset", "rule"), [("light", LONGEST), ("detr", SMALL)])
def test_boxes_follow_their_pixels(preset: Any, rule: ResizeRule) -> None:
    transform = training_transform(PRESETS[preset], rule)
    torch.manual_seed(0)
    centers = []
    for _ in range(60):
        image, boxes, labels = transform(*drawn(150, 200, [[20, 30, 80, 120]]))
        if len(labels) == 0:
            continue
        torch.testing.assert_close(boxes[0], bright_extent(image), rtol=0, atol=1.01)
        centers.append((boxes[0, 0] + boxes[0, 2]).item() / 2 / image.shape[2])
    assert len(centers) > 40
    assert min(centers) < 0.4 < 0.6 < max(centers), "some images are flipped, some are not"


def test_light_varies_contrast_and_brightness_within_bounds() -> None:
    transform = training_transform(PRESETS["light"], LONGEST, mean=(0.0,) * 3, std=(1.0,) * 3)
    picture, boxes, labels = drawn(20, 20, [[0, 0, 20, 10]])
    torch.manual_seed(0)
    dark, bright = torch.tensor(
        [[image.min(), image.max()] for image, _, _ in (transform(picture, boxes, labels) for _ in range(300))]
    ).T
    contrast = (bright - dark) / (155 / 255)
    brightness = dark - contrast * 100 / 255
    for values, low, high in ((contrast, 0.8, 1.2), (brightness, -0.1, 0.1)):
        assert low - 1e-4 < values.min() < low + 0.02
        assert high - 0.02 < values.max() < high + 1e-4
    assert abs(torch.corrcoef(torch.stack([contrast, brightness]))[0, 1]) < 0.2


def test_normalize_does_not_change_its_input() -> None:
    image = tv_tensors.Image(torch.rand(3, 4, 5))
    before = image.clone()
    Normalize(MEAN, STD)(image)
    torch.testing.assert_close(image, before, rtol=0, atol=0)


# --- the crop of the original DETR


@pytest.mark.slow
def test_crop_has_uniform_sizes_and_positions() -> None:
    crop = RandomSizeCrop(20, 60)
    # Every pixel encodes its position, and so that of the crop.
    rows, columns = torch.meshgrid(torch.arange(50), torch.arange(90), indexing="ij")
    image = tv_tensors.Image(torch.stack([rows, columns, rows]).to(torch.uint8))
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[0.0, 0.0, 90.0, 50.0]]), format="XYXY", canvas_size=(50, 90))
    torch.manual_seed(0)
    found = []
    for _ in range(2000):
        cropped, cropped_boxes, labels = crop(image, boxes, torch.tensor([4]))
        height, width = cropped.shape[1:]
        found.append((height, width, cropped[0, 0, 0].item(), cropped[1, 0, 0].item()))
        assert cropped_boxes.tolist() == [[0, 0, width, height]]
        assert labels.tolist() == [4]
    heights, widths, tops, lefts = np.array(found).T
    assert (heights.min(), heights.max()) == (20, 50)  # the height of the image
    assert (widths.min(), widths.max()) == (20, 60)
    assert heights.mean() == pytest.approx(35, abs=1)
    assert widths.mean() == pytest.approx(40, abs=1)
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.08
    assert tops.min() == lefts.min() == 0
    assert (tops + heights).max() == 50
    assert (lefts + widths).max() == 90
    assert (lefts / (90 - widths)).mean() == pytest.approx(0.5, abs=0.03)


def test_crop_keeps_thin_boxes_and_drops_those_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes_xyxy = torch.tensor(
        [
            [0.0, 0.0, 10.0, 30.0],  # outside, touching the crop's left edge
            [0.0, 0.0, 10.25, 30.0],  # a quarter of a pixel is inside
            [15.0, 15.0, 20.0, 20.0],  # inside
            [45.0, 15.0, 50.0, 20.0],  # outside, on the right
            [0.0, 0.0, 50.0, 50.0],  # encloses the crop
        ]
    )
    boxes = tv_tensors.BoundingBoxes(boxes_xyxy, format="XYXY", canvas_size=(50, 50))
    monkeypatch.setattr(
        "detr_lite.data.augmentation.detr._randint", lambda low, high: {(0, 20): 10}.get((low, high), low)
    )
    image = tv_tensors.Image(torch.zeros(3, 50, 50, dtype=torch.uint8))
    cropped, cropped_boxes, labels = RandomSizeCrop(30, 30)(image, boxes, torch.arange(5))
    assert cropped.shape == (3, 30, 30)
    assert labels.tolist() == [1, 2, 4]
    assert cropped_boxes.tolist() == [[0, 0, 0.25, 20], [5, 5, 10, 10], [0, 0, 30, 30]]
    assert cropped_boxes.canvas_size == (30, 30)


def test_crop_of_an_image_smaller_than_min_size() -> None:
    image = tv_tensors.Image(torch.zeros(3, 10, 50, dtype=torch.uint8))
    boxes = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(10, 50))
    cropped, cropped_boxes, labels = RandomSizeCrop(20, 60)(image, boxes, torch.zeros(0, dtype=torch.long))
    assert cropped.shape[1] == 10
    assert cropped_boxes.shape == (0, 4)
    assert labels.shape == (0,)


def test_detr_preset_has_the_sizes_of_the_original() -> None:
    # At a fifth of 800: sides of 96 .. 160 in steps of 6.4, longer side up to 267, crops of 77 .. 120.
    scales = [round(side / 5) for side in range(480, 801, 32)]
    transform = training_transform(PRESETS["detr"], SMALL)
    sample = drawn(100, 150, [[0, 0, 150, 100]])
    torch.manual_seed(0)
    sizes = [tuple(transform(*sample)[0].shape[1:]) for _ in range(300)]

    shortest = [min(size) for size in sizes]
    assert max(max(size) for size in sizes) <= 267
    assert set(shortest) >= set(scales)
    uncropped = {ResizeRule("shortest", scale, 267).target_size(100, 150) for scale in scales}
    share = sum(size in uncropped for size in sizes) / 300
    assert 0.4 < share < 0.6, "half of the images are only resized; few crops have the same aspect ratio"
    assert any(height > width for height, width in sizes), "some crops are in portrait format"
    # A crop is resized like an image: to one of the scales, or to the limit on its longer side.
    assert all(side in scales or max(size) == 267 for side, size in zip(shortest, sizes, strict=True))
    counts = np.bincount(shortest)[scales]
    assert counts.min() > 10  # 27 expected
    assert counts.max() < 50


def test_detr_preset_at_full_size() -> None:
    transform = training_transform(PRESETS["detr"], ORIGINAL)
    sample = drawn(60, 90, [[0, 0, 90, 60]])
    torch.manual_seed(1)
    for _ in range(6):
        assert min(transform(*sample)[0].shape[1:]) in range(480, 801, 32)


def test_transforms_can_be_pickled() -> None:
    sample = drawn(100, 150, [[10, 10, 90, 60]])
    for transform in (training_transform(PRESETS["detr"], SMALL), training_transform(PRESETS["light"], LONGEST)):
        torch.manual_seed(3)
        expected = transform(*sample)
        torch.manual_seed(3)
        for actual, reference in zip(pickle.loads(pickle.dumps(transform))(*sample), expected, strict=True):
            torch.testing.assert_close(actual, reference, rtol=0, atol=0)
