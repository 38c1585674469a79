"""Copies of image files without their EXIF orientation, for boxes that refer to the pixels as they are stored."""

import re
import struct
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image
from tqdm import tqdm

from detr_lite.data.images.files import load_stored, orientation_of
from detr_lite.data.records import RawSplit
from detr_lite.errors import DetrLiteError

ORIENTATION_TAG = 0x0112
METADATA = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif", "Raw profile type APP1")
"""Names under which Pillow keeps what may hold an orientation."""

XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>)\s*)[2-8]")


def ignored_orientations(split: RawSplit) -> Bool[np.ndarray, " image"]:
    """The images of a checked split that have an EXIF orientation which their boxes do not follow."""
    ignored = np.zeros(len(split.paths), dtype=bool)
    found = split.orientation
    if not found.stored and (found.default == "upright" or not found.unsettled):
        return ignored
    for place, path in enumerate(tqdm(split.paths, desc="orientations", unit="image", leave=False, disable=None)):
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            tag = orientation_of(image)
            if tag == 1:
                continue
            width, height = split.sizes_wh[place].tolist()
            is_turned = tag >= 5 and image.width != image.height
            ignored[place] = (width, height) == image.size if is_turned else found.default == "stored"
    return ignored


def copy_without_orientation(source: str, target: Path) -> None:
    """A copy with the same pixels. Errors: a JPEG file whose tag cannot be found."""
    content = Path(source).read_bytes()
    with warnings.catch_warnings(action="ignore"), Image.open(source) as image:
        if content[:2] != b"\xff\xd8":
            _save_pixels(image, target)
            return
    target.write_bytes(_reset_jpeg(content))
    with warnings.catch_warnings(action="ignore"), Image.open(target) as image:
        if orientation_of(image) != 1:
            raise DetrLiteError(f"{source}: its EXIF orientation cannot be taken out; save the image anew without it")


def _save_pixels(image: Image.Image, target: Path) -> None:
    """In the same format, which is not JPEG, so that nothing is lost."""
    format = image.format
    pixels = load_stored(image)[0].copy()  # a copy has no tags of TIFF
    pixels.info = {name: value for name, value in image.info.items() if name not in METADATA}
    pixels.save(target, format=format, lossless=True)


def _reset_jpeg(content: bytes) -> bytes:
    """The file with orientation 1 in its metadata, all other bytes as they were."""
    changed = bytearray(content)
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF and content[place + 1] != 0xDA:
        length = 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        segment = content[place + 4 : place + length]
        if content[place + 1] == 0xE1 and segment.startswith(b"Exif\0"):
            _reset_tiff(changed, place + 10, place + length)
        elif content[place + 1] == 0xE1:
            changed[place + 4 : place + length] = XMP_ORIENTATION.sub(rb"\g<1>1", segment)
        place += length
    return bytes(changed)


def _reset_tiff(content: bytearray, start: int, end: int) -> None:
    """Set the orientation in the first directory of the TIFF structure in `content[start:end]`."""
    order = "<" if content[start : start + 2] == b"II" else ">"
    try:
        directory = start + struct.unpack_from(f"{order}I", content, start + 4)[0]
        (count,) = struct.unpack_from(f"{order}H", content, directory)
        for entry in range(directory + 2, min(directory + 2 + 12 * count, end - 11), 12):
            tag, kind = struct.unpack_from(f"{order}HH", content, entry)
            if tag == ORIENTATION_TAG:
                struct.pack_into(f"{order}{'I' if kind == 4 else 'H'}", content, entry + 8, 1)
    except struct.error:  # damaged; the caller sees that the tag is still there
        return
