"""Blur against torchvision, JPEG against Pillow's files."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from detr_lite.data.augmentation.camera import BLUR_KERNEL, BLUR_SIGMA, JPEG, JPEG_QUALITY, Blur

NOISE = tv_tensors.Image(torch.randint(0, 256, (3, 40, 60), generator=torch.Generator().manual_seed(0)).byte())
SMOOTH = tv_tensors.Image(torch.arange(60).mul(4).expand(3, 40, 60).byte().contiguous())
BOXES = tv_tensors.BoundingBoxes(torch.tensor([[1.0, 2.0, 30.0, 40.0]]), format="XYXY", canvas_size=(40, 60))


def test_blur_is_torchvisions() -> None:
    blur = Blur()
    for seed in range(5):
        torch.manual_seed(seed)
        image, boxes = blur(NOISE, BOXES)
        torch.manual_seed(seed)
        sigma = blur.make_params([])["sigma"]
        assert BLUR_SIGMA[0] <= sigma[0] <= BLUR_SIGMA[1]
        assert torch.equal(image, functional.gaussian_blur(NOISE, [BLUR_KERNEL] * 2, sigma))
        assert torch.equal(boxes, BOXES)


@pytest.mark.parametrize("size", [(1, 60), (60, 2), (1, 1), (3, 3)])
def test_small_images_are_not_blurred(size: tuple[int, int]) -> None:
    image = NOISE[:, : size[0], : size[1]]
    blurred = Blur()(tv_tensors.Image(image))
    assert torch.equal(blurred, image) == (min(size) < 3)


def test_jpeg_gives_the_pixels_of_a_file_of_that_quality() -> None:
    jpeg = JPEG()
    qualities = set()
    for seed in range(200):
        torch.manual_seed(seed)
        quality = jpeg.make_params([])["quality"]
        qualities.add(quality)
        if seed >= 5:
            continue
        torch.manual_seed(seed)
        image, boxes = jpeg(NOISE, BOXES)
        file = io.BytesIO()
        Image.fromarray(NOISE.permute(1, 2, 0).numpy()).save(file, format="JPEG", quality=quality)
        with Image.open(file) as expected:
            assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(expected))
        assert image.dtype == torch.uint8
        assert isinstance(image, tv_tensors.Image)
        assert torch.equal(boxes, BOXES)
    assert min(qualities) < JPEG_QUALITY[0] + 3
    assert max(qualities) > JPEG_QUALITY[1] - 3


def test_jpeg_changes_little_where_there_is_little_detail() -> None:
    def error(image: tv_tensors.Image, quality: int) -> float:
        changed: Tensor = JPEG().transform(image, {"quality": quality})
        return (changed.float() - image.float()).abs().mean().item()

    assert error(SMOOTH, 90) < 1 < error(NOISE, 90) < error(NOISE, 30)
