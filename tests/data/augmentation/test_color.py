"""Colors against torchvision's adjustments, where these do not clip."""

import colorsys

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from detr_lite.data.augmentation.color import JitterColors, color_matrix
from detr_lite.data.transforms import MEAN, STD

STEEL = tv_tensors.Image(torch.randint(90, 160, (3, 20, 30), generator=torch.Generator().manual_seed(0)).byte())
"""Far from black and white."""


@pytest.mark.parametrize(
    ("brightness", "contrast", "saturation"), [(1.0, 1.0, 1.0), (1.2, 1.0, 1.0), (1.0, 0.8, 1.0), (0.9, 1.2, 1.3)]
)
def test_equals_torchvisions_adjustments(brightness: float, contrast: float, saturation: float) -> None:
    params = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": 0.0}
    actual = JitterColors(MEAN, STD, 0.2).transform(STEEL, params)
    expected = functional.to_dtype(STEEL, torch.float32, scale=True)
    expected = functional.adjust_saturation(functional.adjust_brightness(expected, brightness), saturation)
    expected = functional.adjust_contrast(expected, contrast)
    assert 0 < expected.min() < expected.max() < 1, "nothing is clipped"
    torch.testing.assert_close(actual, functional.normalize(expected, MEAN, STD), rtol=0, atol=1e-3)


@pytest.mark.parametrize("turn", [-0.05, 0.02, 0.05])
def test_hue_turns_as_in_hsv_and_keeps_the_brightness(turn: float) -> None:
    for red, green, blue in [(0.6, 0.3, 0.3), (0.3, 0.6, 0.3), (0.3, 0.3, 0.6), (0.5, 0.5, 0.3)]:
        color = torch.tensor([red, green, blue])
        turned = color_matrix(1.0, turn) @ color
        luma = torch.tensor([0.299, 0.587, 0.114])
        assert (luma @ turned).item() == pytest.approx((luma @ color).item(), abs=1e-3)
        change = colorsys.rgb_to_hsv(*turned.tolist())[0] - colorsys.rgb_to_hsv(red, green, blue)[0]
        assert (change + 0.5) % 1 - 0.5 == pytest.approx(turn, abs=0.025)
    gray = torch.full((3,), 0.5)
    torch.testing.assert_close(color_matrix(1.7, turn) @ gray, gray)


def test_a_saturation_of_0_is_gray_and_of_1_the_same() -> None:
    torch.testing.assert_close(color_matrix(1.0, 0.0), torch.eye(3))
    mixed = color_matrix(0.0, 0.1) @ torch.rand(3, 5)
    torch.testing.assert_close(mixed[0], mixed[1])
    torch.testing.assert_close(mixed[0], mixed[2])


def test_draws_within_the_strength_and_independently() -> None:
    torch.manual_seed(0)
    jitter = JitterColors(MEAN, STD, 0.2)
    drawn = [jitter.make_params([]) for _ in range(500)]
    for name, center, limit in (("brightness", 1, 0.2), ("contrast", 1, 0.2), ("saturation", 1, 0.3), ("hue", 0, 0.02)):
        found = torch.tensor([params[name] for params in drawn]) - center
        assert 0.95 * limit < found.abs().max() <= limit + 1e-6
        assert abs(found.mean()) < 0.1 * limit
    values = torch.tensor([list(params.values()) for params in drawn]).T
    assert (torch.corrcoef(values) - torch.eye(4)).abs().max() < 0.15


def test_does_not_change_its_input_and_gives_contiguous_floats() -> None:
    before = STEEL.clone()
    image = JitterColors(MEAN, STD, 0.5)(STEEL)
    assert torch.equal(STEEL, before)
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    assert image.shape == STEEL.shape


def test_floats_are_jittered_as_integers_are() -> None:
    """A resize rule without antialiasing gives floats."""
    params = {"brightness": 1.1, "contrast": 0.9, "saturation": 1.2, "hue": 0.01}
    jitter = JitterColors(MEAN, STD, 0.2)
    floats = functional.to_dtype(STEEL, torch.float32, scale=True)
    torch.testing.assert_close(jitter.transform(floats, params), jitter.transform(STEEL, params), atol=1e-5, rtol=0)
