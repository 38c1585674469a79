"""Random scales, crops that keep objects, and zoom-out: boxes against pixels, and what must never happen."""

import math

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from detr_lite.data.augmentation.scale_crop import MIN_SIDE, RandomScaleCrop, cut_out, is_visible
from detr_lite.data.transforms import ResizeRule
from tests.helpers.colored_boxes import GRAY, color_extent, colored_sample

RULES = [ResizeRule("longest", 128), ResizeRule("fit", 256), ResizeRule("shortest", 120, 200)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
@pytest.mark.parametrize("zoom_out", [0.0, 1.0])
@pytest.mark.slow
def test_boxes_follow_their_pixels(rule: ResizeRule, zoom_out: float) -> None:
    change = RandomScaleCrop(rule, jitter=1.0, zoom_out=zoom_out, fill=(GRAY,) * 3)
    torch.manual_seed(0)
    sizes, counts = set(), []
    for _ in range(60):
        image, boxes, labels = change(*_tensors([[20, 30, 80, 120], [120, 10, 180, 60], [100, 90, 160, 140]]))
        assert boxes.canvas_size == image.shape[1:]
        for box, label in zip(boxes, labels, strict=True):
            extent = color_extent(image / 255, int(label))
            assert extent is not None
            torch.testing.assert_close(box.as_subclass(torch.Tensor), extent, rtol=0, atol=2.01)
        sizes.add(tuple(image.shape[1:]))
        counts.append(len(labels))
    frame = rule.target_size(150, 200)
    assert all(height <= frame[0] and width <= frame[1] for height, width in sizes), "never larger than in evaluation"
    if zoom_out:
        assert sizes == {frame}
        assert set(counts) == {3}
    else:
        assert len(sizes) > 10
        assert set(counts) == {1, 2, 3}


def test_an_object_of_which_little_is_left_is_dropped_and_others_are_clipped() -> None:
    boxes_xyxy = torch.tensor(
        [
            [-6.0, 0.0, 4.0, 10.0],  # 40 % are left
            [-8.0, 0.0, 2.0, 10.0],  # 20 %
            [-5.0, -5.0, 5.0, 5.0],  # half of each side: 25 %
            [0.0, 0.0, 40.0, 20.0],  # the whole image
            [40.0, 0.0, 50.0, 10.0],  # outside, touching
            [-99.0, 5.0, -98.0, 6.0],
            [39.0, 19.0, 40.5, 20.5],  # a corner of 44 %
        ]
    )
    assert is_visible(boxes_xyxy, (20, 40)).tolist() == [True, False, False, True, False, False, True]
    assert is_visible(torch.zeros(0, 4), (20, 40)).tolist() == []


def test_a_part_of_an_image_by_hand() -> None:
    boxes = [[0, 0, 20, 20], [5, 30, 35, 50], [20, 40, 60, 90], [80, 80, 90, 90], [30, 30, 40, 40]]
    image, all_boxes, _ = _tensors(boxes)
    # 0 in a corner of a sixteenth, 1 by two thirds, 2 by a fifth, 3 outside, 4 inside.
    part, cut, is_kept = cut_out(image, all_boxes, top=15, left=15, size=(35, 45), anchor=None)
    assert is_kept.tolist() == [False, True, False, False, True]
    assert cut.tolist() == [[0, 15, 20, 35], [15, 15, 25, 25]]
    assert cut.canvas_size == part.shape[1:] == (35, 45)
    assert torch.equal(part, image[:, 15:50, 15:60])
    cut, is_kept = cut_out(image, all_boxes, top=15, left=15, size=(35, 45), anchor=2)[1:]
    assert is_kept.tolist() == [False, True, True, False, True]
    assert cut[1].tolist() == [5, 25, 45, 35]


@pytest.mark.parametrize(
    "boxes_xyxy",
    [
        [[0, 0, 200, 150]],
        [[0, 0, 1, 1]],
        [[199, 149, 200, 150], [0, 0, 5, 5]],
        [[0, 70, 200, 80]],
        [[i * 25, i * 20, i * 25 + 12, i * 20 + 9] for i in range(7)],
    ],
)
def test_no_image_loses_all_of_its_objects(boxes_xyxy: list[list[int]]) -> None:
    torch.manual_seed(0)
    change = RandomScaleCrop(ResizeRule("fit", 100), jitter=9.0, zoom_out=0.0)
    sample = _tensors(boxes_xyxy)
    original = sample[1].as_subclass(torch.Tensor)
    for _ in range(200):
        image, boxes, labels = change(*sample)
        assert len(labels) >= 1
        inside = boxes.as_subclass(torch.Tensor)
        assert (inside >= 0).all()
        assert (inside[:, 2] <= image.shape[2] + 1e-3).all()
        assert (inside[:, 3] <= image.shape[1] + 1e-3).all()
        assert (inside[:, 2:] > inside[:, :2]).all()
        assert (original[labels, 2:] > original[labels, :2]).all()


@pytest.mark.slow
def test_each_object_stays_as_often_as_any_other() -> None:
    """The crop is placed around an object drawn at random: those at the border are not the ones that are lost."""
    torch.manual_seed(0)
    change = RandomScaleCrop(ResizeRule("fit", 100), jitter=1.0, zoom_out=0.0)
    kept = torch.zeros(3)
    for _ in range(600):
        labels = change(*_tensors([[0, 0, 20, 20], [90, 65, 110, 85], [180, 130, 200, 150]]))[2]
        kept[labels] += 1
    assert kept.min() > 300
    assert abs(kept[0] - kept[2]) < 60


def test_factors_are_log_uniform() -> None:
    torch.manual_seed(0)
    change = RandomScaleCrop(ResizeRule("fit", 400), jitter=1.0, zoom_out=0.0)
    # Without objects nothing limits the factor; the pixels of a ramp tell how much of the image is left.
    ramp = tv_tensors.Image(torch.arange(200, dtype=torch.uint8).expand(3, 200, 200).contiguous())
    empty = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(200, 200))
    logs = []
    for _ in range(400):
        image, boxes, labels = change(ramp, empty, torch.zeros(0, dtype=torch.int64))
        assert boxes.shape == (0, 4)
        assert labels.shape == (0,)
        share = (int(image[0, 0].max()) - int(image[0, 0].min()) + 1) / 200
        logs.append(math.log2(image.shape[2] / 400 if image.shape[2] < 400 else 1 / share))
    found = torch.tensor(logs)
    assert -1.02 < found.min() < -0.95
    assert 0.95 < found.max() < 1.05
    assert abs(found.mean()) < 0.08
    assert found.std().item() == pytest.approx(2 / math.sqrt(12), abs=0.05)


@pytest.mark.parametrize("zoom_out", [0.0, 1.0])
def test_small_objects_are_not_scaled_away(zoom_out: float) -> None:
    torch.manual_seed(0)
    change = RandomScaleCrop(ResizeRule("fit", 200), jitter=3.0, zoom_out=zoom_out)
    sides = []
    for _ in range(200):
        image, boxes, _ = change(*_tensors([[50, 40, 60, 50], [100, 90, 180, 140]]))
        if zoom_out or image.shape[2] < 200:
            sides.append((boxes[0, 2:] - boxes[0, :2]).prod().sqrt().item())
    assert MIN_SIDE - 0.2 < min(sides) < MIN_SIDE + 0.2
    # One that is smaller than that already is not scaled down at all.
    for _ in range(50):
        image, boxes, _ = change(*_tensors([[50, 40, 54, 44]]))
        assert image.shape[1:] == (150, 200)
        assert (boxes[0, 2] - boxes[0, 0]).item() > 3.9


@pytest.mark.slow
def test_zoom_out_fills_with_the_given_color() -> None:
    torch.manual_seed(0)
    change = RandomScaleCrop(ResizeRule("fit", 200), jitter=0.0, zoom_out=1.0, fill=(1.0, 0.5, 0.0))
    white = tv_tensors.Image(torch.full((3, 150, 200), 255, dtype=torch.uint8))
    empty = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(150, 200))
    shares = []
    for _ in range(100):
        image, _, _ = change(white, empty, torch.zeros(0, dtype=torch.int64))
        is_white = (image == 255).all(dim=0)
        assert image[:, ~is_white].unique(dim=1).flatten().tolist() in ([255, 128, 0], [])
        shares.append(is_white.float().mean().item())
    assert 0.25 <= min(shares) < 0.3
    assert 0.95 < max(shares) <= 1


def test_without_jitter_it_is_the_rule_alone() -> None:
    sample = _tensors([[20, 30, 80, 120]])
    image, boxes, labels = RandomScaleCrop(ResizeRule("fit", 100), jitter=0.0, zoom_out=0.0)(*sample)
    assert image.shape == (3, 75, 100)
    assert boxes.tolist() == [[10, 15, 40, 60]]
    assert labels.tolist() == [0]


def _tensors(boxes_xyxy: list[list[int]]) -> tuple[tv_tensors.Image, tv_tensors.BoundingBoxes, torch.Tensor]:
    picture, boxes, labels = colored_sample(150, 200, boxes_xyxy)
    return functional.to_image(picture), boxes, labels
