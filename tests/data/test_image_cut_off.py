"""Files whose header promises more pixels than follow: of those that Pillow completes with black, none is accepted."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detr_lite.data.images import cut_off
from detr_lite.data.images.convert import as_image
from detr_lite.data.images.files import UnreadableImageError, read_stored
from detr_lite.data.images.load import load_image
from detr_lite.structures import DetrLiteError

ADAM7 = np.array(
    [
        [1, 6, 4, 6, 2, 6, 4, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
        [5, 6, 5, 6, 5, 6, 5, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
        [3, 6, 4, 6, 3, 6, 4, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
        [5, 6, 5, 6, 5, 6, 5, 6],
        [7, 7, 7, 7, 7, 7, 7, 7],
    ]
)
"""The pass of each pixel, as the standard draws it."""


def rows_of(width: int, height: int, bits: int, is_interlaced: bool) -> list[int]:
    """The bytes of each row of an image, or of its passes, without the first byte of each."""
    if not is_interlaced:
        return [-(-width * bits // 8)] * height
    passes = np.tile(ADAM7, (-(-height // 8), -(-width // 8)))[:height, :width]
    counts = [(passes == number).sum(axis=1) for number in range(1, 8)]
    return [-(-int(count) * bits // 8) for rows in counts for count in rows if count]


def png(width: int, height: int, data: bytes, color: int = 0, depth: int = 8, is_interlaced: bool = False) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, is_interlaced)
    compressed = zlib.compress(data, 9)
    parts = [chunk(b"IDAT", compressed[start : start + 700]) for start in range(0, len(compressed), 700)]
    palette = chunk(b"PLTE", bytes(range(256)) * 3) if color == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + b"".join(parts) + chunk(b"IEND", b"")


def outcome(path: Path) -> str:
    try:
        read_stored(path)
    except UnreadableImageError as error:
        return error.kind
    return "complete"


@pytest.mark.parametrize("is_interlaced", [False, True])
@pytest.mark.parametrize(("color", "depth", "bits"), [(0, 1, 1), (0, 16, 16), (2, 8, 24), (3, 4, 4), (6, 8, 32)])
@pytest.mark.parametrize("value", [0, 0x55])
def test_a_png_needs_every_row(
    tmp_path: Path, is_interlaced: bool, color: int, depth: int, bits: int, value: int
) -> None:
    path = tmp_path / "a.png"
    for width, height in ((1, 1), (3, 1), (1, 2), (5, 3), (2, 5), (9, 8), (4, 9), (17, 16)):
        rows = [b"\0" + bytes([value]) * length for length in rows_of(width, height, bits, is_interlaced)]
        path.write_bytes(png(width, height, b"".join(rows), color, depth, is_interlaced))
        assert outcome(path) == "complete", (width, height)
        path.write_bytes(png(width, height, b"".join(rows) + b"more than there should be", color, depth, is_interlaced))
        assert outcome(path) == "complete", (width, height)
        for kept in {0, len(rows) // 2, len(rows) - 1}:
            path.write_bytes(png(width, height, b"".join(rows[:kept]), color, depth, is_interlaced))
            assert outcome(path) == "truncated_image", (width, height, kept)
        path.write_bytes(png(width, height, b"".join(rows)[:-1], color, depth, is_interlaced))
        assert outcome(path) == "truncated_image", (width, height)


def test_a_large_png_of_one_color_is_complete_in_few_bytes(tmp_path: Path) -> None:
    path = tmp_path / "black.png"
    path.write_bytes(png(6_000, 6_000, bytes(6_001 * 6_000)))
    assert path.stat().st_size < 40_000
    assert outcome(path) == "complete"
    path.write_bytes(png(6_000, 6_000, bytes(6_001 * 5_999)))
    assert outcome(path) == "truncated_image"


def test_the_data_are_counted_only_where_the_last_row_is_black(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(*_: object) -> int:
        raise AssertionError

    monkeypatch.setattr(cut_off, "_count_bytes", count)
    Image.new("RGB", (64, 48), (0, 0, 1)).save(tmp_path / "a.png")
    assert outcome(tmp_path / "a.png") == "complete"


def with_height(image: Image.Image, height: int, **options: object) -> bytes:
    """A TIFF file whose header says another height."""
    stream = io.BytesIO()
    image.save(stream, "TIFF", **options)
    content = bytearray(stream.getvalue())
    place = next(at for kind in (3, 4) if (at := content.find(struct.pack("<HHI", 257, kind, 1))) > 0)
    struct.pack_into("<HHII", content, place, 257, 4, 1, height)
    return bytes(content)


@pytest.mark.parametrize("mode", ["L", "RGB", "F", "I;16", "P"])
@pytest.mark.parametrize("strip_size", [64, 65_536])
def test_a_tiff_needs_every_strip(tmp_path: Path, mode: str, strip_size: int) -> None:
    path = tmp_path / "a.tif"
    image = Image.new(mode, (32, 24), 9)
    image.save(path, strip_size=strip_size)
    assert outcome(path) == "complete"
    path.write_bytes(with_height(image, 24, strip_size=strip_size))
    assert outcome(path) == "complete"
    for height in (25, 48, 2_000_000):
        path.write_bytes(with_height(image, height, strip_size=strip_size))
        assert outcome(path) == "truncated_image", height
        with pytest.raises(DetrLiteError, match="fewer rows than its header says"):
            load_image(path)
        with pytest.raises(DetrLiteError, match="fewer rows than its header says"):
            as_image(Image.open(path))


def planar(planes: int, tile: int | None) -> bytes:
    """An RGB TIFF of 32 x 16 pixels with a plane for each color, of which the first are there; in tiles or strips."""
    pieces = 1 if tile is None else 32 // tile
    size = 32 * 16 // pieces
    count = planes * pieces
    layout = [(278, 4, 1, 16), (273, 4, count, 512), (279, 4, count, 600)]
    if tile is not None:
        layout = [(322, 4, 1, tile), (323, 4, 1, 16), (324, 4, count, 512), (325, 4, count, 600)]
    tags = [(256, 4, 1, 32), (257, 4, 1, 16), (258, 3, 3, 700), (259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, 3)]
    tags = sorted([*tags, (284, 3, 1, 2), *layout])
    offsets = [1024 + size * number for number in range(count)]
    content = bytearray(1024 + size * count)
    struct.pack_into("<2sHIH", content, 0, b"II", 42, 8, len(tags))
    for number, (tag, kind, length, value) in enumerate(tags):
        values = {273: offsets, 324: offsets, 279: [size] * count, 325: [size] * count}.get(tag)
        value = values[0] if values and count == 1 else value
        struct.pack_into("<HHII", content, 10 + 12 * number, tag, kind, length, value)
    struct.pack_into(f"<{count}I", content, 512, *offsets)
    struct.pack_into(f"<{count}I", content, 600, *[size] * count)
    struct.pack_into("<3H", content, 700, 8, 8, 8)
    for place in range(1024, len(content)):
        content[place] = 50 * (1 + (place - 1024) // (size * pieces))
    return bytes(content)


@pytest.mark.parametrize("tile", [None, 16])
def test_a_tiff_of_planes_needs_each(tmp_path: Path, tile: int | None) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(planar(3, tile))
    assert read_stored(path).image.getcolors() == [(512, (50, 100, 150))]
    for planes in (1, 2):
        path.write_bytes(planar(planes, tile))
        assert outcome(path) == "truncated_image"
