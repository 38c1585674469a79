"""Image files whose header promises more pixels than follow, where Pillow leaves the missing ones black."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, PLANAR_CONFIGURATION, TiffImageFile

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of each color type of PNG."""

PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced PNG: first column, first row, and the steps between columns and between rows."""

BLOCK = 2**16
"""Bytes that are decompressed at once."""


def lacks_strips(image: TiffImageFile) -> bool:
    """Whether an uncompressed TIFF that is not yet decoded has too few strips or tiles; libtiff checks the others."""
    tiles = [tile for tile in image.tile if tile.codec_name == "raw"]
    if not tiles:
        return False
    planes = len(image.getbands()) if image.tag_v2.get(PLANAR_CONFIGURATION) == 2 else 1
    size = (image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH])  # image.size is that of the upright image
    return sum(tuple(tile.extents or ())[2:] == size for tile in tiles) < planes


def lacks_rows(image: Image.Image, path: str | Path) -> bool:
    """Whether the compressed data of a decoded PNG file end before its last row.

    The data are only counted if that row is black or transparent, as it is where it is missing.
    """
    with Path(path).open("rb") as file:
        file.seek(16)
        *size, depth, color, _, _, is_interlaced = struct.unpack(">IIBBBBB", file.read(13))
        width, height = size
        last = height - 1 - (height % 2 if is_interlaced else 0)  # the last pass of an interlaced one has the odd rows
        if last >= 0 and np.asarray(image.crop((0, last, width, last + 1))).any():
            return False
        expected = _png_bytes(width, height, depth * CHANNELS[color], bool(is_interlaced))
        return _count_bytes(file, expected) < expected


def _png_bytes(width: int, height: int, bits: int, is_interlaced: bool) -> int:
    """The bytes of an image before compression, at so many bits a pixel."""
    total = 0
    for left, top, step_x, step_y in PASSES if is_interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // step_x), -(-(height - top) // step_y)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))  # each row begins with the number of its filter
    return total


def _count_bytes(file: BinaryIO, limit: int) -> int:
    """The length of the decompressed data, which is not counted beyond the limit."""
    decompressor = zlib.decompressobj()
    count = 0
    try:
        for compressed in _image_data(file):
            waiting = compressed
            while waiting and count < limit:
                count += len(decompressor.decompress(waiting, BLOCK))
                waiting = decompressor.unconsumed_tail
            if count >= limit:
                break
        else:
            count += len(decompressor.flush(BLOCK))
    except zlib.error:  # what follows is not decoded either
        pass
    return count


def _image_data(file: BinaryIO) -> Iterator[bytes]:
    """The contents of the chunks with image data, in pieces."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            for start in range(0, length, BLOCK):
                yield file.read(min(BLOCK, length - start))
        elif kind == b"IEND":
            return
        else:
            file.seek(length, 1)
        file.seek(4, 1)
