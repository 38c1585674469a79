"""Mosaic, mixup and copy-paste: boxes against pixels of known colors, and overlap by hand."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou
from torchvision.transforms.v2 import functional

from detr_lite.data.augmentation.mixing import MAX_OVERLAP, MixingTransform, mixup, mosaic, overlap, paste_objects
from detr_lite.data.augmentation.scale_crop import Sample, least_factor
from detr_lite.data.augmentation.settings import PRESETS, Augmentation
from detr_lite.data.augmentation.training import training_transform
from detr_lite.data.transforms import ResizeRule
from tests.helpers.colored_boxes import GRAY, color_extent, colored_sample

FIT = ResizeRule("fit", 200)
RULES = [ResizeRule("longest", 128), FIT, ResizeRule("shortest", 120, 200)]
PLAIN = (GRAY,) * 3, (1.0,) * 3


def tensors(height: int, width: int, boxes_xyxy: list[list[int]], labels: list[int] | None = None) -> Sample:
    picture, boxes, numbers = colored_sample(height, width, boxes_xyxy, labels)
    return functional.to_image(picture), boxes, numbers


def assert_boxes_enclose_their_pixels(sample: Sample, tolerance: float = 2.01) -> None:
    image, boxes, labels = sample
    assert boxes.canvas_size == image.shape[1:]
    assert len(set(labels.tolist())) == len(labels), "one object of each color"
    for box, label in zip(boxes.as_subclass(Tensor), labels.tolist(), strict=True):
        if (box[2:] - box[:2]).min() < 4:  # a strip cut off, whose color is mixed with that around it
            continue
        extent = color_extent(image / 255, label)
        assert extent is not None
        torch.testing.assert_close(box, extent, rtol=0, atol=tolerance)


# --- mosaic


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
@pytest.mark.slow
def test_mosaic_boxes_follow_their_pixels(rule: ResizeRule) -> None:
    torch.manual_seed(0)
    samples = [
        tensors(150, 200, [[20, 30, 80, 120], [120, 20, 180, 90]], [0, 1]),
        tensors(200, 150, [[30, 60, 110, 140]], [2]),
        tensors(150, 200, [[80, 40, 130, 100]], [3]),
        tensors(300, 400, [[100, 100, 300, 200], [10, 10, 60, 60]], [4, 5]),
    ]
    seen = torch.zeros(6)
    for _ in range(60):
        mixed = mosaic(samples, rule, (GRAY,) * 3)
        assert mixed[0].dtype == torch.uint8
        assert tuple(mixed[0].shape) == (3, *rule.target_size(150, 200)), "as large as in evaluation"
        assert_boxes_enclose_their_pixels(mixed)
        labels = set(mixed[2].tolist())
        assert labels & {0, 1}
        assert {2, 3} <= labels
        assert labels & {4, 5}, "an object of each image"
        seen[mixed[2]] += 1
    assert seen.min() > 10


def test_mosaic_of_images_without_objects_and_with_many() -> None:
    torch.manual_seed(0)
    many = tensors(150, 200, [[i * 25, i * 20, i * 25 + 12, i * 20 + 9] for i in range(7)])
    for _ in range(20):
        empty = mosaic([tensors(150, 200, [])] * 4, FIT)
        assert empty[1].shape == (0, 4)
        assert empty[2].dtype == torch.int64
        boxes, labels = mosaic([many] * 4, FIT)[1:]
        assert boxes.shape == (len(labels), 4)
        assert len(labels) >= 4
        plain = boxes.as_subclass(Tensor)
        assert (plain[:, 2:] > plain[:, :2]).all()
        assert plain.min() >= 0
        assert (plain <= torch.tensor([200, 150] * 2)).all()


def test_mosaic_fills_its_quarters_or_shows_the_fill_color() -> None:
    torch.manual_seed(0)
    large = [tensors(150, 200, [])] * 4  # scaled to cover their quarters
    assert (mosaic(large, FIT, (1.0, 0.0, 0.0))[0] == 102).float().mean() > 0.97
    small = [tensors(150, 200, [])] + [tensors(20, 30, [])] * 3  # "longest" does not enlarge them
    mixed = mosaic(small, ResizeRule("longest", 200), (1.0, 0.0, 0.0))[0]
    is_fill = (mixed == torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None]).all(dim=0)
    assert 0.3 < is_fill.float().mean() < 0.95
    assert (mixed[:, ~is_fill] == 102).all()


def test_there_is_no_mosaic_in_an_image_of_one_row() -> None:
    transform = training_transform(Augmentation(mosaic=1.0), ResizeRule("longest", 200))
    row = colored_sample(1, 200, [[20, 0, 80, 1]])
    image, boxes, _ = transform(*row, lambda: row)
    assert image.shape == (3, 1, 200)
    assert boxes.tolist() == [[20, 0, 80, 1]]
    two = tensors(2, 200, [[20, 0, 80, 2]])
    for _ in range(20):
        assert len(mosaic([two] * 4, ResizeRule("longest", 200))[2]) == 4


# --- mixup


def test_mixup_is_the_mean_with_all_objects() -> None:
    first, second = tensors(60, 80, [[10, 10, 30, 30]], [0]), tensors(60, 80, [[40, 20, 70, 50]], [1])
    image, boxes, labels = mixup(first, second, 0.6)
    expected = (0.6 * first[0].as_subclass(Tensor).float() + 0.4 * second[0].as_subclass(Tensor).float()).round()
    assert torch.equal(image.as_subclass(Tensor), expected.to(torch.uint8))
    assert boxes.tolist() == [[10, 10, 30, 30], [40, 20, 70, 50]]
    assert labels.tolist() == [0, 1]
    assert first[0][0, 15, 15] == 255, "the first image is as it was"


def test_mixup_of_another_size_cuts_or_leaves_the_first_one_alone() -> None:
    first = tensors(60, 80, [[10, 10, 30, 30]], [0])
    larger = tensors(100, 90, [[0, 0, 90, 100], [40, 40, 50, 70], [70, 0, 90, 10], [78, 0, 90, 10]], [1, 2, 3, 4])
    image, boxes, labels = mixup(first, larger, 0.5)
    assert image.shape == (3, 60, 80)
    assert labels.tolist() == [0, 1, 2, 3]  # of the last one a sixth is left
    assert boxes.tolist() == [[10, 10, 30, 30], [0, 0, 80, 60], [40, 40, 50, 60], [70, 0, 80, 10]]
    image, boxes, labels = mixup(first, tensors(20, 30, [[5, 5, 20, 15]], [1]), 0.5)
    assert image.shape == (3, 60, 80)
    assert torch.equal(image[:, 20:], first[0][:, 20:])
    assert torch.equal(image[:, :, 30:], first[0][:, :, 30:])
    assert labels.tolist() == [0, 1]
    assert mixup(tensors(20, 30, []), tensors(20, 30, []), 0.5)[1].shape == (0, 4)


# --- copy-paste


@pytest.mark.slow
def test_pasted_boxes_follow_their_pixels() -> None:
    torch.manual_seed(0)
    source = tensors(150, 200, [[20, 30, 60, 70], [120, 20, 160, 90], [100, 120, 130, 140]], [1, 2, 3])
    counts, widths = [], []
    for _ in range(100):
        sample = tensors(150, 200, [[60, 50, 140, 110]], [0])
        mixed = paste_objects(sample, source, jitter=0.5)
        image, boxes, labels = mixed
        for box, label in zip(boxes.as_subclass(Tensor)[1:], labels.tolist()[1:], strict=True):
            extent = color_extent(image / 255, label)
            assert extent is not None
            torch.testing.assert_close(box, extent, rtol=0, atol=1.01)
        assert boxes[0].tolist() == [60, 50, 140, 110]
        others = box_iou(boxes.as_subclass(Tensor), boxes.as_subclass(Tensor)).fill_diagonal_(0)
        assert others.max() <= MAX_OVERLAP
        counts.append(len(labels) - 1)
        widths += [box[2] - box[0] for box, label in zip(boxes.tolist(), labels.tolist(), strict=True) if label == 1]
    assert set(counts) == {1, 2, 3}
    assert 26 <= min(widths) < 30
    assert 54 < max(widths) <= 60


def test_what_finds_no_place_is_left_out() -> None:
    torch.manual_seed(0)
    full = tensors(60, 80, [[0, 0, 80, 60]], [0])
    mixed = paste_objects(full, tensors(60, 80, [[10, 10, 30, 30]], [1]), jitter=0.0)
    assert mixed[2].tolist() == [0]
    assert torch.equal(mixed[0], full[0])
    for source in (tensors(60, 80, []), full):
        assert paste_objects(tensors(60, 80, []), source, jitter=0.0)[1].shape == (len(source[2]), 4)


def test_objects_that_are_seen_in_a_pasted_box_come_too() -> None:
    torch.manual_seed(0)
    source = tensors(100, 100, [[10, 10, 60, 60], [20, 20, 40, 40], [50, 50, 90, 90]], [0, 1, 2])
    labels = set()
    for _ in range(40):
        mixed = paste_objects(tensors(100, 100, []), source, jitter=0.0)
        labels.add(tuple(mixed[2].tolist()))
        for box, label in zip(mixed[1].as_subclass(Tensor), mixed[2].tolist(), strict=True):
            if mixed[2].tolist() == [0, 1]:  # each once
                torch.testing.assert_close(color_extent(mixed[0] / 255, label), box)
    assert (0, 1) in labels, "the inner one with the outer one, but not the one of which a corner is seen"
    assert (1,) in labels
    assert (2,) in labels


def test_an_object_larger_than_the_image_is_scaled_down() -> None:
    torch.manual_seed(0)
    source = tensors(200, 300, [[0, 0, 300, 200]], [1])
    image, boxes, labels = paste_objects(tensors(60, 80, []), source, jitter=0.0)
    assert labels.tolist() == [1]
    assert image.shape == (3, 60, 80)
    box = boxes.as_subclass(Tensor)[0]
    assert (box[2:] - box[:2]).tolist() == pytest.approx([80, 53], abs=1)


def test_small_objects_are_not_pasted_smaller() -> None:
    torch.manual_seed(0)
    source = tensors(60, 80, [[10, 10, 18, 18], [40, 20, 70, 50]], [1, 2])
    for _ in range(60):
        boxes, labels = paste_objects(tensors(60, 80, []), source, jitter=1.0)[1:]
        for box, label in zip(boxes.as_subclass(Tensor), labels.tolist(), strict=True):
            side = (box[2:] - box[:2]).prod().sqrt().item()
            assert side >= (7.9 if label == 1 else 14)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0, 0, 10, 10], 1.0),
        ([10, 0, 20, 10], 0.0),
        ([5, 0, 15, 10], 0.5),
        ([2, 2, 4, 4], 1.0),  # inside
        ([-10, -10, 30, 30], 1.0),  # around it
        ([9, 9, 29, 29], 0.01),
        ([45, 45, 55, 65], 0.25),
    ],
)
def test_overlap_by_hand(box: list[int], expected: float) -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [40.0, 40.0, 50.0, 50.0]])
    assert overlap(boxes, box) == pytest.approx(expected)
    assert overlap(boxes[:0], box) == 0


# --- the whole transform


@pytest.mark.parametrize("part", ["mosaic", "mixup", "copy_paste"])
@pytest.mark.parametrize("preset", ["light", "photographs", "detr"])
@pytest.mark.parametrize("objects", [0, 1, 7])
def test_any_preset_and_number_of_objects(part: str, preset: Any, objects: int) -> None:
    rule = ResizeRule("shortest", 120, 200)
    transform = training_transform(replace(PRESETS[preset], **{part: 1.0}), rule)
    assert isinstance(transform, MixingTransform)
    torch.manual_seed(0)
    sample = colored_sample(150, 200, [[9 * i, 5, 90 + 9 * i, 140] for i in range(objects)])
    for _ in range(10):
        image, boxes, labels = transform(*sample, lambda: sample)
        assert type(image) is type(boxes) is type(labels) is Tensor
        assert image.dtype == boxes.dtype == torch.float32
        assert boxes.shape == (len(labels), 4)
        assert labels.dtype == torch.int64
        assert preset == "detr" or (len(labels) > 0) == (objects > 0)
        if preset != "detr":
            height, width = rule.target_size(150, 200)
            assert image.shape[1] <= height
            assert image.shape[2] <= width


@pytest.mark.parametrize(("part", "images"), [("mosaic", 4), ("mixup", 2), ("copy_paste", 2)])
def test_probabilities_are_shares_of_the_images(part: str, images: int) -> None:
    transform = training_transform(Augmentation(**{part: 0.3}), FIT, *PLAIN)
    sample = colored_sample(60, 80, [[20, 30, 50, 50]])
    drawn: list[int] = []

    def draw() -> Any:
        drawn[-1] += 1
        return sample

    torch.manual_seed(0)
    for _ in range(200):
        drawn.append(1)
        transform(*sample, draw)
    if part == "mixup":
        assert set(drawn) == {1, 2}
    assert {1, images} <= set(drawn)
    assert 0.2 < sum(count > 1 for count in drawn) / 200 < 0.4


def test_flips_and_colors_belong_to_all() -> None:
    everything = replace(PRESETS["photographs"], mosaic=0.5, mixup=0.5, copy_paste=0.5, jpeg=0.0, blur=0.0)
    transform = training_transform(everything, FIT, *PLAIN)
    samples = [colored_sample(150, 200, [[20 + 9 * i, 30, 80 + 9 * i, 120]], [i]) for i in range(6)]
    torch.manual_seed(0)
    means = set()
    for _ in range(40):
        image, boxes, _ = transform(*samples[0], lambda: samples[int(torch.randint(6, ()))])
        means.add(round(image.mean().item(), 4))
        assert torch.isfinite(image).all()
        assert boxes.min() >= 0
    assert len(means) > 35


def test_can_be_pickled_and_repeated() -> None:
    transform = training_transform(replace(PRESETS["photographs"], mosaic=0.5, mixup=0.5, copy_paste=0.5), FIT)
    sample = colored_sample(100, 150, [[10, 10, 90, 60]])
    copy: Callable[..., Any] = pickle.loads(pickle.dumps(transform))
    for seed in range(5):
        results = []
        for each in (transform, copy):
            torch.manual_seed(seed)
            results.append(each(*sample, lambda: sample))
        for actual, expected in zip(*results, strict=True):
            assert torch.equal(actual, expected)


def test_least_factor_by_hand() -> None:
    image = torch.zeros(3, 100, 200)
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 100.0, 100.0]])
    assert least_factor(image, boxes, (50, 100)) == pytest.approx(0.8)  # 10 pixels to 8
    assert least_factor(image, boxes, (25, 50)) == 1
    assert least_factor(image, boxes[1:], (100, 200)) == pytest.approx(0.08)
    assert least_factor(image, boxes[:0], (50, 100)) == 0
