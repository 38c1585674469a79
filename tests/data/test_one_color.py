"""Images of one color are found whatever the color and the format, and those with a small object are not."""

from pathlib import Path

import numpy as np
from PIL import Image

from detr_lite.data.analysis.near_duplicates import near_pairs
from detr_lite.data.analysis.one_color import SAME_COLOR, one_color_images
from detr_lite.data.images.thumbnails import read_thumbnails


def test_images_of_one_color(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    with_object = np.full((480, 640, 3), 30, np.uint8)
    with_object[200:210, 300:310] = 250
    noise = generator.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    hardly = np.full((480, 640, 3), 100, np.uint8) + generator.integers(0, 2, (480, 640, 3), dtype=np.uint8)
    images = [
        np.zeros((480, 640, 3), np.uint8),
        with_object,
        np.full((48, 64, 3), (250, 20, 90), np.uint8),
        noise,
        hardly,
    ]
    for suffix in (".png", ".jpg"):
        paths = [str(tmp_path / f"{number}{suffix}") for number in range(len(images))]
        for image, path in zip(images, paths, strict=True):
            Image.fromarray(image).save(path)
        assert one_color_images(read_thumbnails(paths)).tolist() == [0, 2, 4], suffix


def test_the_color_itself_is_no_difference() -> None:
    thumbnails = np.zeros((3, 16, 16, 3), np.uint8)
    thumbnails[:, ..., 0] = 255
    thumbnails[1, 5, 5, 2] = SAME_COLOR
    thumbnails[2, 5, 5, 2] = SAME_COLOR + 1
    assert one_color_images(thumbnails).tolist() == [0, 1]
    assert one_color_images(thumbnails[:0]).tolist() == []


def test_noise_on_one_color_makes_no_near_duplicates() -> None:
    """Their hashes would be noise, in which an image and its brighter copy agree."""
    noise = np.random.default_rng(0).integers(0, 4, (16, 16, 3), dtype=np.uint8)
    red = noise + np.array([200, 0, 0], np.uint8)
    assert len(near_pairs(np.stack([red, red + 2]))) == 0
