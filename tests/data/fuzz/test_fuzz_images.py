"""Thousands of damaged image files: each is left out with a word, or loaded in the size that was checked."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_lite.data.reading import Reading, read_split
from detr_lite.structures import DetrLiteError
from tests.helpers.isolation import run_isolated
from tests.helpers.mutations import mutate_image
from tests.helpers.soundness import assert_one_line, assert_sound

INPUTS = 8000
"""Image files in all, by so many in one dataset:"""
AT_ONCE = 8

pytestmark = [pytest.mark.stress, pytest.mark.timeout(1600)]


def _encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def _sources() -> list[bytes]:
    """A small picture in many formats and kinds of pixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    wide = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[274] = 6
    return [
        _encoded(image, "JPEG", quality=90),
        _encoded(image, "JPEG", progressive=True, exif=exif),
        _encoded(image.convert("CMYK"), "JPEG"),
        _encoded(image, "PNG"),
        _encoded(wide, "PNG"),
        _encoded(image.quantize(16), "PNG", transparency=0),
        _encoded(image, "TIFF"),
        _encoded(image, "TIFF", compression="tiff_lzw"),
        _encoded(Image.fromarray(pixels[..., 0].astype(np.float32)), "TIFF"),
        _encoded(image.convert("P"), "GIF", save_all=True, append_images=[image.convert("P")] * 2),
        _encoded(image, "WEBP"),
        _encoded(image, "WEBP", lossless=True),
        _encoded(image, "BMP"),
    ]


@pytest.fixture(autouse=True)
def without_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is kept: files that change within a tick of the clock would look unchanged."""
    monkeypatch.setenv("DETR_LITE_CACHE", "/dev/null/none")
    level = logging.getLogger("detr_lite").level
    logging.getLogger("detr_lite").setLevel(logging.ERROR)
    yield
    logging.getLogger("detr_lite").setLevel(level)


def test_damaged_image_files(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "train").mkdir(parents=True)
    (root / "annotations").mkdir()
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": 32, "height": 24} for number in range(AT_ONCE + 1)
        ],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "bbox": [number, 2, 9, 10 + number]}
            for number in range(AT_ONCE + 1)
        ],
        "categories": [{"id": 1, "name": "box"}],
    }
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    (root / "val").symlink_to("train")
    sources = _sources()
    (root / "train" / f"{AT_ONCE}.jpg").write_bytes(
        sources[0]
    )  # one that is sound, so that there is something to train

    def read(number: int) -> None:
        random = Random(f"images {number}")
        for place in range(AT_ONCE):
            damaged = mutate_image(random.choice(sources), random)
            (root / "train" / f"{place}.jpg").write_bytes(damaged)
        try:
            split = read_split(root, "train", Reading("skip", random.choice(("upright", "stored"))))
        except DetrLiteError as error:
            assert_one_line(str(error))
        else:
            assert_sound(split)

    faults = run_isolated(read, range(INPUTS // AT_ONCE), tmp_path)
    assert not faults, "\n".join(faults)
