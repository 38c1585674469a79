"""Images of every kind are converted to 8-bit RGB; anything else is refused with what is expected."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from detr_lite.data.images.convert import as_image
from detr_lite.data.images.load import load_image
from detr_lite.structures import DetrLiteError

GRADIENT = np.linspace(0, 255, 16).round().astype(np.uint8).reshape(2, 8)
"""Grey values that every mode can represent."""


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK", "I;16", "I", "1"])
def test_every_mode_is_converted_to_8_bit_rgb(tmp_path: Path, mode: str) -> None:
    expected = GRADIENT
    if mode in ("I;16", "I"):
        image = Image.fromarray(GRADIENT.astype(np.uint16) * 257)
        image = image.convert("I") if mode == "I" else image
    elif mode == "1":
        expected = np.where(GRADIENT > 127, np.uint8(255), np.uint8(0))
        image = Image.fromarray(expected).convert("1")
    else:
        image = Image.fromarray(GRADIENT).convert(mode)
    assert image.mode == mode
    path = tmp_path / "image.tiff"
    image.save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rgb = load_image(path)
    assert rgb.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(rgb), np.repeat(expected[..., None], 3, axis=2))


def test_a_palette_with_transparency_raises_no_warning(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    Image.fromarray(GRADIENT).convert("P").save(path, transparency=bytes(range(200)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(np.asarray(load_image(path))[..., 0], GRADIENT)


def save_with_orientation(path: Path, orientation: int, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    """A file of 40 x 30 pixels (width x height) without symmetry, with an EXIF orientation."""
    width, height = size
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[: height // 3, :, 1] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return pixels


def upright_by_pillow(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_every_orientation_as_pillow_applies_it(tmp_path: Path, suffix: str, tag: int) -> None:
    """Pillow makes TIFF files upright when it loads them; the others when told."""
    path = tmp_path / f"photo.{suffix}"
    pixels = save_with_orientation(path, tag)
    if suffix == "webp":  # which loses some detail
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(load_image(path)), upright_by_pillow(path))
    np.testing.assert_array_equal(np.asarray(load_image(path, orientation="stored")), pixels)
    for given in (path, str(path)):
        np.testing.assert_array_equal(np.asarray(as_image(given)), upright_by_pillow(path))
        np.testing.assert_array_equal(np.asarray(as_image(given, "stored")), pixels)
    for orientation, expected in (("upright", upright_by_pillow(path)), ("stored", pixels)):
        with Image.open(path) as opened:
            found = as_image(opened, orientation)
            np.testing.assert_array_equal(np.asarray(found), expected)
            np.testing.assert_array_equal(np.asarray(as_image(found)), expected, "nothing is turned twice")


@pytest.mark.parametrize("tag", [5, 6, 7, 8])
@pytest.mark.parametrize("setting", ["upright", "stored"])
def test_the_annotated_size_settles_the_orientation(tmp_path: Path, tag: int, setting: Any) -> None:
    path = tmp_path / "photo.png"
    pixels = save_with_orientation(path, tag)
    np.testing.assert_array_equal(np.asarray(load_image(path, (30, 40), setting)), pixels)
    np.testing.assert_array_equal(np.asarray(load_image(path, (40, 30), setting)), upright_by_pillow(path))


@pytest.mark.parametrize(("tag", "size"), [(2, (40, 30)), (3, (40, 30)), (4, (40, 30)), (6, (32, 32)), (5, (32, 32))])
def test_the_setting_decides_where_the_size_does_not(tmp_path: Path, tag: int, size: tuple[int, int]) -> None:
    path = tmp_path / "photo.png"
    pixels = save_with_orientation(path, tag, size)
    np.testing.assert_array_equal(np.asarray(load_image(path, size[::-1], "stored")), pixels)
    np.testing.assert_array_equal(np.asarray(load_image(path, size[::-1], "upright")), upright_by_pillow(path))
    assert (upright_by_pillow(path) != pixels).any()


@pytest.mark.parametrize("exif", [b"Exif\0\0MM", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0" * 20])
def test_damaged_exif_data_cost_nothing(tmp_path: Path, exif: bytes) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.repeat(GRADIENT[..., None], 3, axis=2)).save(path, exif=exif, quality=100, subsampling=0)
    assert load_image(path).size == (8, 2)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_size_that_no_orientation_gives(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.png"
    save_with_orientation(path, orientation)
    with pytest.raises(DetrLiteError, match=r"a\.png: the file is (40 x 30|30 x 40) pixels, .* say 41 x 30 ") as error:
        load_image(path, (30, 41))
    assert "\n" not in str(error.value)


def test_unreadable_images_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    complete, truncated, text = tmp_path / "whole.jpg", tmp_path / "cut.jpg", tmp_path / "text.jpg"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(complete)
    truncated.write_bytes(complete.read_bytes()[:1500])
    text.write_text("not\nan image")
    for path in (truncated, text):
        with pytest.raises(DetrLiteError) as error:
            load_image(path)
        assert str(error.value).startswith(f"{path}: not readable as an image (")
        assert "\n" not in str(error.value)


def test_any_exception_of_pillow_means_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    monkeypatch.setattr(Image, "open", lambda _: (_ for _ in ()).throw(RuntimeError("no such\nplane")))
    with pytest.raises(DetrLiteError, match=r"a\.png: not readable as an image \(no such plane\)"):
        load_image(path)


def test_pillows_limit_on_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above twice the limit Pillow raises; above the limit it warns, and the warning is suppressed."""
    path = tmp_path / "large.png"
    Image.new("1", (40, 30)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(DetrLiteError, match=r"large\.png: more pixels than are safe to read \(Image size"):
        load_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(path).size == (40, 30)


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1)


def alpha(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels, np.full((5, 7, 1), 9, np.uint8)], axis=2)


FORMS: dict[str, Any] = {
    "Pillow": Image.fromarray(PIXELS),
    "with alpha": Image.fromarray(alpha(PIXELS)),
    "array": PIXELS,
    "array with alpha": alpha(PIXELS),
    "not contiguous": PIXELS[:, ::-1].copy()[:, ::-1],
    "16 bits": PIXELS.astype(np.uint16) * 257,
    "big-endian 16 bits": (PIXELS.astype(np.uint16) * 257).astype(">u2"),
    "float64": PIXELS / 255,
    "float32": (PIXELS / 255).astype(np.float32),
    "float a little beyond": PIXELS / 255 * 1.0005,
    "tensor": TENSOR,
    "float tensor": TENSOR / 255,
    "tensor with gradient": (TENSOR / 255).requires_grad_(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_pixels(form: str) -> None:
    image = as_image(FORMS[form])
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize("gray", [GRADIENT, GRADIENT[..., None], GRADIENT.astype(np.uint16) * 257, GRADIENT / 255])
def test_grey_arrays(gray: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(as_image(gray)), np.repeat(GRADIENT[..., None], 3, axis=2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_other_float_types(dtype: torch.dtype) -> None:
    found = np.asarray(as_image((TENSOR / 255).to(dtype))).astype(int)
    assert np.abs(found - PIXELS).max() <= 1


def test_the_callers_image_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    save_with_orientation(path, 6)
    with Image.open(path) as opened:
        as_image(opened)
        assert opened.size == (40, 30)


@pytest.mark.parametrize("mode", ["1", "LA", "La", "P", "PA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"])
def test_pillow_images_of_any_mode(mode: str) -> None:
    assert as_image(Image.new(mode, (8, 2))).mode == "RGB"


def test_a_truncated_pillow_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with Image.open(path) as opened, pytest.raises(DetrLiteError, match="a Pillow image that is not readable"):
        as_image(opened)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (None, ["NoneType is not an image", "give a path"]),
        (b"bytes", ["bytes is not an image"]),
        (PIXELS.astype(int), ["a numpy array (5, 7, 3) of int64 is not an image", "uint8, uint16 or float 0 .. 1"]),
        (PIXELS > 9, ["of bool is not an image"]),
        (np.zeros((5, 7, 2), np.uint8), ["a numpy array (5, 7, 2)", "(height, width[, 1 | 3 | 4])"]),
        (np.zeros((3, 5, 7), np.uint8), ["(3, height, width) is a tensor's order"]),
        (np.zeros((0, 7, 3), np.uint8), ["a numpy array (0, 7, 3)"]),
        (PIXELS.astype(float), ["of float64 has values from", "a float image has 0 .. 1"]),
        (np.full((2, 2), np.nan), ["has values from nan to nan"]),
        (TENSOR[None], ["a tensor (1, 3, 5, 7) of uint8 is not an image", "for a batch give list(batch)"]),
        (TENSOR[:2], ["a tensor (2, 5, 7) of uint8"]),
        (torch.zeros(3, 0, 4), ["a tensor (3, 0, 4) of float32"]),
        (TENSOR.long(), ["a tensor (3, 5, 7) of int64"]),
        (TENSOR / 255 - 0.5, ["values from -0.5", "the detector normalizes by itself"]),
    ],
)
def test_anything_else_is_refused(given: Any, parts: list[str]) -> None:
    with pytest.raises(DetrLiteError) as error:
        as_image(given)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_pillow_image_of_floats_equals_an_array_of_floats() -> None:
    pixels = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(np.asarray(as_image(Image.fromarray(pixels))), np.asarray(as_image(pixels)))


def test_alpha_has_no_part_in_the_range_of_16_bits() -> None:
    pixels = np.full((5, 7, 4), 65535, np.uint16)
    pixels[..., :3] = PIXELS.astype(int) * 4095 // 255
    assert np.abs(np.asarray(as_image(pixels)).astype(int) - PIXELS).max() <= 1
