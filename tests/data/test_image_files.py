"""What is wrong with an unreadable file, and JPEG files that lack their last bytes."""

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_lite.data.images import jpeg_end
from detr_lite.data.images.files import (
    UnreadableImageError,
    decoding_bytes,
    orientation_of,
    pixel_limit,
    read_stored,
)
from detr_lite.data.images.load import load_image
from detr_lite.structures import DetrLiteError


def photograph(width: int = 160, height: int = 120, seed: int = 0) -> Image.Image:
    """Smooth shapes with noise."""
    rng = np.random.default_rng(seed)
    smooth = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return Image.fromarray((np.asarray(smooth) + rng.normal(0, 10, (height, width, 3))).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def outcome(path: Path, as_thumbnail: bool = False) -> str:
    try:
        return "incomplete" if read_stored(path, as_thumbnail).is_incomplete else "complete"
    except UnreadableImageError as error:
        return error.kind


BASELINE = encoded(photograph(), quality=85)

FILES: dict[str, tuple[bytes, str]] = {
    "sound.jpg": (BASELINE, "complete"),
    "sound.png": (encoded(photograph(), "PNG"), "complete"),
    "empty.jpg": (b"", "empty_image"),
    "half.jpg": (BASELINE[: len(BASELINE) // 2], "truncated_image"),
    "half.png": (encoded(photograph(), "PNG")[:20_000], "truncated_image"),
    "half.gif": (encoded(photograph(), "GIF")[:5_000], "truncated_image"),
    "half.tif": (encoded(photograph(), "TIFF")[:20_000], "truncated_image"),
    "half.bmp": (encoded(photograph(), "BMP")[:20_000], "truncated_image"),
    "text.jpg": (b"<html>404 not found</html>", "not_an_image"),
    "first bytes.jpg": (BASELINE[:4], "not_an_image"),
    "program.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n", "program"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("as_thumbnail", [False, True])
def test_kinds_of_files(tmp_path: Path, name: str, as_thumbnail: bool) -> None:
    content, expected = FILES[name]
    (tmp_path / name).write_bytes(content)
    assert outcome(tmp_path / name, as_thumbnail) == expected


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg", "tiff_deflate", "packbits"])
def test_damaged_tiff_files_write_nothing_on_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], compression: str
) -> None:
    content = bytearray(encoded(photograph(), "TIFF", compression=compression))
    content[200:2000] = np.random.default_rng(0).bytes(1800)
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    outcome(path)
    if compression in ("tiff_lzw", "tiff_deflate"):  # the others make something of any bytes
        assert outcome(path) == "unreadable_image"
    assert capfd.readouterr().err == ""


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert outcome(tmp_path / "missing.jpg") == "missing_image"
    assert outcome(tmp_path / "link.jpg") == "missing_image"
    assert outcome(tmp_path) == "unreadable_image"
    assert outcome(tmp_path / "pipe.jpg") == "unreadable_image", "opening it would wait forever"
    assert outcome(tmp_path / ("a" * 300)) == "unreadable_image"
    assert outcome(Path("a\0b")) == "unreadable_image"
    assert decoding_bytes(tmp_path / "pipe.jpg") == decoding_bytes(tmp_path / "missing.jpg") == 0


def test_the_limit_on_pixels_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (40, 30)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # restored at the end
    assert pixel_limit() == 2 * 89_478_485
    monkeypatch.setenv("DETR_LITE_MAX_PIXELS", "1200")
    with warnings.catch_warnings(action="ignore"):
        assert outcome(path) == "complete"
    monkeypatch.setenv("DETR_LITE_MAX_PIXELS", "1198")
    assert pixel_limit() == 1198
    assert outcome(path) == "too_many_pixels"
    with pytest.raises(DetrLiteError, match=r"a\.png: more pixels than are safe .*variable DETR_LITE_MAX_PIXELS"):
        load_image(path)
    for text in ("many", "0", "-3", "1e6"):
        monkeypatch.setenv("DETR_LITE_MAX_PIXELS", text)
        with pytest.raises(DetrLiteError, match=r"DETR_LITE_MAX_PIXELS is .*a number of pixels"):
            read_stored(path)


JPEGS: dict[str, bytes] = {
    "4:2:0": BASELINE,
    "4:4:4": encoded(photograph(), quality=95, subsampling=0),
    "progressive": encoded(photograph(), quality=85, progressive=True),
    "grey": encoded(photograph().convert("L")),
    "CMYK": encoded(photograph().convert("CMYK")),
    "restart markers": encoded(photograph(), restart_marker_rows=1),
    "small": encoded(photograph(16, 16)),
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.slow
def test_a_jpeg_that_is_cut_anywhere_is_read_only_with_its_pixels(tmp_path: Path, kind: str) -> None:
    """The thumbnail that the check decodes finds the same as training."""
    content, path = JPEGS[kind], tmp_path / "a.jpg"
    whole = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    end = len(content)
    cuts = {*range(1, 30), *np.random.default_rng(0).integers(30, end, 40).tolist(), *range(end - 40, end)}
    for cut in sorted(cuts):
        path.write_bytes(content[:cut])
        found = outcome(path)
        assert found == outcome(path, as_thumbnail=True)
        if found in ("complete", "incomplete"):
            lost = (np.abs(np.asarray(load_image(path)).astype(int) - whole).max(axis=2) > 2).sum()
            assert lost <= min(1.5 * jpeg_end.MAX_LOST_PIXELS, 0.1 * whole[..., 0].size), cut
        assert found not in ("complete", "incomplete") or cut > 0.9 * end


def test_a_jpeg_without_its_last_bytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for missing in range(1, 9):
        path.write_bytes(BASELINE[:-missing])
        assert outcome(path) == ("complete" if missing <= 2 else "incomplete"), "two bytes are the end's marker"
    with Image.open(path) as opened, pytest.raises(OSError, match="truncated"):
        opened.load()


def test_half_a_marker_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(BASELINE[:-6] + b"\xff")
    assert outcome(path) == "incomplete"


@pytest.mark.parametrize(
    ("kind", "marker"), [("restart markers", b"\xff\xd3"), ("progressive", b"\xff\xc4"), ("progressive", b"\xff\xda")]
)
def test_a_cut_between_the_parts_of_a_jpeg_is_no_lost_end(tmp_path: Path, kind: str, marker: bytes) -> None:
    """The pixels of what is there do not depend on what follows it, but that is not the whole image."""
    path = tmp_path / "a.jpg"
    path.write_bytes(JPEGS[kind][: JPEGS[kind].rindex(marker)])
    assert outcome(path) == "truncated_image"


def test_a_scan_of_one_color_is_not_the_image(tmp_path: Path) -> None:
    """The brightness alone, in a scan of its own; the scans of the other two channels are missing."""
    path = tmp_path / "a.jpg"
    color, grey = encoded(photograph(), subsampling=0), encoded(photograph().convert("L"))
    path.write_bytes(color[: color.rindex(b"\xff\xda")] + grey[grey.rindex(b"\xff\xda") : -6])
    with Image.open(io.BytesIO(path.read_bytes() + b"\xff\xd9")) as completed:
        completed.load()  # libjpeg is content with it
    assert outcome(path) == "truncated_image"


def test_a_large_jpeg_without_its_last_bytes_counts_as_truncated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(BASELINE[:-6])
    monkeypatch.setattr(jpeg_end, "MAX_COMPLETED_PIXELS", 160 * 120 - 1)
    assert outcome(path) == "truncated_image"


def test_pixels_as_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("jpg", "tif"):
        path = tmp_path / f"a.{suffix}"
        photograph(40, 30).save(path, exif=exif)
        for as_thumbnail in (False, True):
            stored = read_stored(path, as_thumbnail)
            assert (stored.size_wh, stored.upright_size_wh(), stored.orientation) == ((40, 30), (30, 40), 6)


@pytest.mark.parametrize("tag", [0, 1, 9, "6", 6.5, (6, 6), None])
def test_orientations_without_a_meaning(tag: Any) -> None:
    class Odd(Image.Image):
        def getexif(self) -> Any:
            return {0x0112: tag}

    assert orientation_of(Odd()) == 1


def test_memory_is_estimated_by_the_header(tmp_path: Path) -> None:
    for name, options in (("plain.jpg", {}), ("progressive.jpg", {"progressive": True}), ("plain.png", {})):
        photograph().save(tmp_path / name, **options)
    assert decoding_bytes(tmp_path / "plain.png") == decoding_bytes(tmp_path / "progressive.jpg") == 160 * 120 * 4
    assert decoding_bytes(tmp_path / "plain.jpg") == 160 * 120 * 4 // 64, "a thumbnail"
