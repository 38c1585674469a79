"""The transform of training images, put together from its parts."""

import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from detr_lite.build import build_augmentation
from detr_lite.config import DataConfig
from detr_lite.data.augmentation.settings import PRESETS, Augmentation
from detr_lite.data.augmentation.training import training_transform
from detr_lite.data.transforms import ResizeRule
from detr_lite.structures import DetrLiteError
from tests.helpers.colored_boxes import GRAY, color_extent, colored_sample

RULES = [ResizeRule("longest", 128), ResizeRule("fit", 256), ResizeRule("shortest", 120, 200)]
PLAIN: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
@pytest.mark.parametrize("objects", [0, 1, 7])
def test_photographs_costs_no_more_pixels_than_light(rule: ResizeRule, objects: int) -> None:
    transform = training_transform(PRESETS["photographs"], rule)
    torch.manual_seed(0)
    frame = rule.target_size(150, 200)
    pixels = []
    for _ in range(40):
        image, boxes, labels = transform(
            *colored_sample(150, 200, [[9 * i, 5, 90 + 9 * i, 140] for i in range(objects)])
        )
        assert image.dtype == boxes.dtype == torch.float32
        assert type(image) is type(boxes) is type(labels) is torch.Tensor
        assert boxes.shape == (len(labels), 4)
        assert labels.dtype == torch.int64
        assert (len(labels) > 0) == (objects > 0)
        assert image.shape[1] <= frame[0]
        assert image.shape[2] <= frame[1]
        pixels.append(image.shape[1] * image.shape[2])
    assert 0.6 < sum(pixels) / len(pixels) / (frame[0] * frame[1]) < 1


@pytest.mark.slow
def test_photographs_boxes_follow_their_pixels() -> None:
    # Without JPEG, which puts pixels of other colors beside edges.
    transform = training_transform(
        replace(PRESETS["photographs"], jpeg=0.0), ResizeRule("fit", 256), (GRAY,) * 3, (1.0,) * 3
    )
    torch.manual_seed(0)
    errors, is_mirrored = [], []
    for _ in range(80):
        image, boxes, labels = transform(*colored_sample(150, 200, [[20, 30, 80, 120], [120, 40, 180, 110]]))
        for box, label in zip(boxes, labels, strict=True):
            extent = color_extent(image + GRAY, int(label))
            assert extent is not None
            errors.append((box - extent).abs().max().item())
        if len(labels) == 2:
            is_mirrored.append(bool(boxes[0, 0] > boxes[1, 0]))
    assert max(errors) <= 2.5
    assert 0.3 < sum(is_mirrored) / len(is_mirrored) < 0.7


def test_vertical_flip_turns_image_and_boxes_upside_down() -> None:
    upside_down = training_transform(Augmentation(vertical_flip=1.0), ResizeRule("fit", 200), **PLAIN)
    image, boxes, _ = upside_down(*colored_sample(150, 200, [[20, 30, 80, 120], [120, 0, 180, 40]]))
    assert boxes.tolist() == [[20, 30, 80, 120], [120, 110, 180, 150]]
    for label, box in enumerate(boxes):
        torch.testing.assert_close(color_extent(image, label), box)


@pytest.mark.parametrize("part", ["blur", "jpeg"])
def test_blur_and_jpeg_change_pixels_and_nothing_else(part: str) -> None:
    sample = colored_sample(150, 200, [[20, 30, 80, 120]])
    rule = ResizeRule("fit", 200)
    plain = training_transform(PRESETS["none"], rule, **PLAIN)(*sample)
    changed = training_transform(Augmentation(**{part: 1.0}), rule, **PLAIN)(*sample)
    assert torch.equal(plain[1], changed[1])
    difference = (plain[0] - changed[0]).abs()
    assert difference.max() > 0.05, "at the edges"
    assert difference.mean() < 0.05


@pytest.mark.slow
def test_probabilities_are_shares_of_the_images() -> None:
    sample = colored_sample(60, 80, [[20, 30, 50, 50]])
    rule = ResizeRule("fit", 80)
    plain = training_transform(PRESETS["none"], rule)(*sample)[0]
    for part in ("blur", "jpeg", "zoom_out", "horizontal_flip", "vertical_flip"):
        transform = training_transform(Augmentation(**{part: 0.3}), rule)
        torch.manual_seed(0)
        changed = [not torch.equal(transform(*sample)[0], plain) for _ in range(200)]
        assert 0.2 < sum(changed) / 200 < 0.4, part


def test_settings_change_single_parts_of_a_preset() -> None:
    assert build_augmentation(DataConfig()) == PRESETS["light"]
    for name, preset in PRESETS.items():
        assert build_augmentation(DataConfig(augmentation=name)) == preset
    photographs = PRESETS["photographs"]
    changed = build_augmentation(DataConfig(augmentation="photographs", scale_jitter=0.0, jpeg=1.0, vertical_flip=0.5))
    assert changed == replace(photographs, scale_jitter=0.0, jpeg=1.0, vertical_flip=0.5)
    # Contrast and brightness are not changed twice.
    assert build_augmentation(DataConfig(color_jitter=0.3)) == Augmentation(horizontal_flip=0.5, color_jitter=0.3)
    assert build_augmentation(DataConfig(color_jitter=0.0)) == Augmentation(horizontal_flip=0.5)


def test_what_is_left_out_takes_no_time() -> None:
    steps = training_transform(PRESETS["none"], ResizeRule("fit", 80)).transforms
    assert [type(step).__name__ for step in steps] == ["ToImage", "ResizeByRule", "Normalize", "ToPureTensor"]
    assert isinstance(
        training_transform(PRESETS["light"], ResizeRule("fit", 80)).transforms[2], v2.RandomHorizontalFlip
    )


def test_detr_has_scales_of_its_own() -> None:
    for part in ("scale_jitter", "zoom_out"):
        with pytest.raises(DetrLiteError, match="photographs"):
            training_transform(replace(PRESETS["detr"], **{part: 0.5}), ResizeRule("shortest", 100))


def test_can_be_pickled() -> None:
    transform = training_transform(replace(PRESETS["photographs"], blur=0.5, jpeg=0.5), ResizeRule("fit", 100))
    sample = colored_sample(100, 150, [[10, 10, 90, 60]])
    for seed in range(5):
        torch.manual_seed(seed)
        expected = transform(*sample)
        torch.manual_seed(seed)
        for actual, reference in zip(pickle.loads(pickle.dumps(transform))(*sample), expected, strict=True):
            assert torch.equal(actual, reference)


def test_the_last_part_of_a_run_has_flips_and_exposure_alone() -> None:
    assert PRESETS["photographs"].late() == PRESETS["light"]
    assert PRESETS["light"].late() == PRESETS["light"]
    assert PRESETS["none"].late() == PRESETS["none"]
    assert PRESETS["detr"].stop == 1
    text = build_augmentation(DataConfig(augmentation="photographs", horizontal_flip=0.0, vertical_flip=0.5))
    assert text.late() == replace(PRESETS["light"], horizontal_flip=0.0, vertical_flip=0.5)
    # Whoever wants no changes of colors gets none at the end either.
    assert build_augmentation(DataConfig(augmentation="photographs", color_jitter=0.0)).late().exposure_jitter == 0
    assert build_augmentation(DataConfig(augmentation_stop=0.5)).stop == 0.5
