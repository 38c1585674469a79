"""Samples of a split: the seed of a draw decides everything that is random, other images included."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.data.augmentation.settings import PRESETS, Augmentation
from detr_lite.data.augmentation.training import training_transform
from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.reading import read_split
from detr_lite.data.sampler import SeededIndex
from detr_lite.data.transforms import ResizeRule, evaluation_transform
from detr_lite.structures import Target

RESIZE = ResizeRule("fit", 64)
EVERYTHING = replace(PRESETS["photographs"], mosaic=0.5, mixup=0.5, copy_paste=0.5)


def assert_same(first: tuple[torch.Tensor, Target], second: tuple[torch.Tensor, Target]) -> None:
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1].boxes_cxcywh, second[1].boxes_cxcywh)
    assert torch.equal(first[1].labels, second[1].labels)


def test_a_seed_gives_the_same_sample_and_leaves_the_generator_alone(tiny_data: Path) -> None:
    split = read_split(tiny_data, "train")
    dataset, again = (DetectionDataset(split, training_transform(EVERYTHING, RESIZE)) for _ in range(2))
    torch.manual_seed(0)
    expected = torch.rand(())
    torch.manual_seed(0)
    for seed in range(12):
        draw = SeededIndex(seed % len(dataset), seed)
        sample = dataset[draw]
        assert_same(sample, again[draw])
        assert not torch.equal(sample[0], dataset[draw._replace(seed=seed + 100)][0])
        target = sample[1]
        assert target.image_id == draw.image
        assert target.original_size == (split.images[draw.image].height, split.images[draw.image].width)
        boxes_xyxy = cxcywh_to_xyxy(target.boxes_cxcywh)
        assert ((boxes_xyxy > -1e-4) & (boxes_xyxy < 1 + 1e-4)).all()
    assert torch.rand(()) == expected


def test_late_draws_have_the_late_transform(tiny_data: Path) -> None:
    split = read_split(tiny_data, "train")
    plain, mixed = evaluation_transform(RESIZE), training_transform(EVERYTHING, RESIZE)
    dataset = DetectionDataset(split, mixed, plain)
    assert_same(dataset[SeededIndex(3, 7, is_late=True)], DetectionDataset(split, plain)[3])
    assert_same(dataset[SeededIndex(3, 7)], DetectionDataset(split, mixed)[SeededIndex(3, 7)])
    # Without another transform nothing is different at the end.
    alone = DetectionDataset(split, mixed)
    assert_same(alone[SeededIndex(3, 7, is_late=True)], alone[SeededIndex(3, 7)])


@pytest.mark.parametrize("part", ["mosaic", "mixup", "copy_paste"])
def test_other_images_are_drawn_from_all(tiny_data: Path, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split = read_split(tiny_data, "train")
    dataset = DetectionDataset(split, training_transform(Augmentation(**{part: 1.0}), RESIZE))
    read: list[int] = []
    original = DetectionDataset._read

    def counted(self: DetectionDataset, index: int) -> object:
        read.append(index)
        return original(self, index)

    monkeypatch.setattr(DetectionDataset, "_read", counted)
    for seed in range(40):
        dataset[SeededIndex(2, seed)]
    each = {"mosaic": 4, "mixup": 2, "copy_paste": 2}[part]
    assert len(read) == 40 * each
    assert set(read) == set(range(len(dataset)))
    assert read[::each] == [2] * 40
