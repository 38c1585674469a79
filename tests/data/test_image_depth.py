"""The range that is taken to be an image's full one: in arrays, in files and in Pillow images alike."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_lite.data.images.convert import as_image
from detr_lite.data.images.depth import PLAIN_MODES, to_8_bits, to_rgb
from detr_lite.data.images.load import load_image

RAMP = np.arange(256).reshape(8, 32)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4"])
def test_the_full_range_is_that_of_a_camera(bits: int, dtype: str) -> None:
    pixels = np.round(RAMP / 255 * (2**bits - 1)).astype(dtype)
    found, depth = to_8_bits(pixels)
    np.testing.assert_array_equal(found, RAMP)
    assert depth == ("" if bits == 16 else f"{bits} bits")


def test_images_of_one_camera_share_a_range_though_one_is_darker() -> None:
    """Of 12 bits: a value means the same in an image that goes up to 4095 and in one that goes up to 1100."""
    (bright, _), (dark, _) = (to_8_bits(np.array([[1000, largest]], np.uint16)) for largest in (4095, 1100))
    assert bright[0, 0] == dark[0, 0] == round(1000 / 4095 * 255)


@pytest.mark.parametrize(
    ("pixels", "expected", "depth"),
    [
        ([[0.0, 0.5, 1.0]], [[0, 128, 255]], ""),
        ([[0.0, 128.4, 255.0]], [[0, 128, 255]], "0 .. 255"),
        ([[-1000.0, 0.0, 3000.0]], [[0, 64, 255]], "own range"),
        ([[0.0, 500.0, 1000.0]], [[0, 128, 255]], "own range"),
        ([[np.nan, 0.5, 1.0]], [[128, 128, 255]], ""),
        ([[-np.inf, 0.0, np.inf, 1.0]], [[0, 0, 255, 255]], ""),
        ([[np.nan, np.inf]], [[0, 0]], ""),
        ([[7e5, 7e5]], [[0, 0]], "own range"),
        ([[-3e38, 0.0, 3e38]], [[0, 128, 255]], "own range"),
    ],
)
def test_floats(pixels: list[list[float]], expected: list[list[int]], depth: str) -> None:
    with np.errstate(all="raise"):
        for dtype in (np.float32, np.float64):
            found, said = to_8_bits(np.array(pixels, dtype))
            np.testing.assert_array_equal(found, expected)
            assert said == depth


def test_signed_and_wide_integers_are_stretched_from_their_own_range() -> None:
    for low, high in ((-1024, 3071), (0, 70_000), (-(2**31), 2**31 - 1)):
        found, depth = to_8_bits(np.linspace(low, high, 256).round().astype(np.int32).reshape(8, 32))
        assert depth == "own range"
        assert np.abs(found.astype(int) - RAMP).max() <= 1


@pytest.mark.parametrize(
    ("array", "suffix"),
    [
        ((RAMP * 4095 // 255).astype(np.uint16), "png"),
        ((RAMP * 4095 // 255).astype(np.uint16), "tif"),
        ((RAMP * 4095 // 255).astype(np.int32), "tif"),
        (RAMP.astype(np.float32), "tif"),
        ((RAMP / 255).astype(np.float32), "tif"),
        ((RAMP * 10.0 - 500).astype(np.float32), "tif"),
    ],
)
def test_files_and_open_images_follow_the_same_rule(tmp_path: Path, array: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(array).save(path)
    expected = np.repeat(to_8_bits(array)[0][..., None], 3, axis=2)
    np.testing.assert_array_equal(np.asarray(load_image(path)), expected)
    np.testing.assert_array_equal(np.asarray(as_image(Image.open(path))), expected)
    assert np.abs(expected[..., 0].astype(int) - RAMP).max() <= 1


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N", "I"])
def test_every_byte_order(mode: str) -> None:
    image: Any = Image.new(mode, (2, 1))
    image.putpixel((0, 0), 3000)
    rgb, depth = to_rgb(image)
    assert depth == "12 bits"
    assert rgb.getpixel((0, 0)) == (round(3000 / 4095 * 255),) * 3


@pytest.mark.parametrize("mode", PLAIN_MODES)
def test_plain_modes_convert_whatever_the_pixels_are(mode: str) -> None:
    """The check of a dataset does not convert them."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 8 * len(Image.new(mode, (1, 1)).getbands())), np.uint8)
    image = Image.frombytes(mode, (8, 4), noise.tobytes()) if mode != "1" else Image.new("1", (8, 4))
    assert to_rgb(image)[0].mode == "RGB"


def test_wide_images_take_little_memory_beyond_their_own() -> None:
    for pixels in (np.linspace(0, 1, 2**23, dtype=np.float32), np.arange(2**23, dtype=np.int32)):
        tracemalloc.start()
        try:
            found, _ = to_8_bits(pixels.reshape(2**13, 2**10))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1.2 * pixels.nbytes
        assert found.min() == 0
        assert found.max() == 255
        assert (np.diff(found.reshape(-1).astype(int)) >= 0).all()


def test_metadata_stay_behind(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        rgb, _ = to_rgb(image)
    assert not rgb.getexif()
    assert image.getexif()[0x0112] == 6
