"""JPEG files without their last bytes, as an interrupted copy leaves them: those with all pixels are completed."""

import io
from pathlib import Path

from PIL import Image, ImageChops
from PIL.JpegImagePlugin import JpegImageFile

_START_OF_IMAGE, _START_OF_SCAN, _END_OF_IMAGE = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_PROGRESSIVE, _RESTART_INTERVAL = b"\xff\xc2", b"\xff\xdd"

MAX_LOST_PIXELS, MAX_LOST_SHARE = 1024, 0.05
"""A JPEG without its last bytes is read if no more pixels than this depend on them: a few blocks of 16 x 16."""

MAX_COMPLETED_PIXELS = 50_000_000
"""Larger JPEG files without their last bytes count as truncated, as a look at them takes three times the memory."""


def complete_jpeg(path: Path) -> io.BytesIO | None:
    """A JPEG file without its last bytes, with an end; None for other formats and if pixels are missing.

    Pixels that the file has do not depend on what follows it. That says nothing about further scans, such as those of a
    progressive file, nor about what a restart marker begins: such files count as truncated.
    """
    with path.open("rb") as file:
        if file.read(2) != _START_OF_IMAGE:
            return None
        content = _START_OF_IMAGE + file.read().rstrip(b"\xff")  # half of a marker
    variants = []
    for more in (b"", b"\x55" * 4096):
        with Image.open(io.BytesIO(content + more + _END_OF_IMAGE)) as image:
            if not isinstance(image, JpegImageFile) or not _has_one_scan(content, len(image.getbands())):
                return None
            if image.width * image.height > MAX_COMPLETED_PIXELS:
                return None
            image.load()
            variants.append(image)
    box = ImageChops.difference(*variants).getbbox()
    lost = 0 if box is None else (box[2] - box[0]) * (box[3] - box[1])
    if lost > min(MAX_LOST_PIXELS, MAX_LOST_SHARE * image.width * image.height):
        return None
    return io.BytesIO(content + _END_OF_IMAGE)


def _has_one_scan(content: bytes, channels: int) -> bool:
    """Of all channels and without restart markers."""
    scan = content.rfind(_START_OF_SCAN)
    is_whole = len(content) > scan + 4 and content[scan + 4] == channels
    return is_whole and _PROGRESSIVE not in content and _RESTART_INTERVAL not in content
