"""Time of the check of a dataset's images before training: the first time, from the cache, and after a change."""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image
from tqdm import tqdm

from detr_lite.cores import usable_cores
from detr_lite.data.reading import read_split
from detr_lite.structures import DetrLiteError

SIZE_WH = (640, 480)
QUALITY = 88
"""Photographs take about 130 kB each."""


def images_table(count: int) -> str:
    """Markdown: seconds of reading and checking a dataset of so many drawn photographs, and the peak of the memory."""
    if count < 1:
        raise DetrLiteError(f"--images is {count}; it must be at least 1")
    with photograph_dataset(count) as root:
        size = sum(path.stat().st_size for path in (root / "train").iterdir())
        rows = [("first time", _seconds(root)), ("second time", _seconds(root))]
        _photograph(root / "train" / _name(0), seed=count)
        rows.append(("after a change of one file", _seconds(root)))
    # In kilobytes, on macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    width, height = SIZE_WH
    what = f"{count:,} photographs of {width} x {height}, {size / count / 1000:.0f} kB each, {usable_cores()} cores"
    lines = [f"| {what} | seconds |", "| --- | ---: |", *(f"| {name} | {seconds:.2f} |" for name, seconds in rows)]
    return "\n".join([*lines, "", f"Peak memory of the process: {peak:.0f} MB."])


def _seconds(root: Path) -> float:
    start = time.perf_counter()
    read_split(root, "train")
    return time.perf_counter() - start


@contextmanager
def photograph_dataset(count: int) -> Iterator[Path]:
    """A temporary COCO dataset with one object in each image, and an empty cache."""
    with tempfile.TemporaryDirectory(prefix="detr_lite_images_") as folder:
        root = Path(folder) / "data"
        (root / "train").mkdir(parents=True)
        (root / "annotations").mkdir()
        paths = [root / "train" / _name(index) for index in range(count)]
        with ThreadPoolExecutor(usable_cores()) as pool:
            drawn = pool.map(_photograph, paths, range(count))
            for _ in tqdm(drawn, "drawing", count, unit="image", leave=False, disable=None):
                pass
        width, height = SIZE_WH
        content = {
            "images": [{"id": i, "file_name": _name(i), "width": width, "height": height} for i in range(count)],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 1, "bbox": [i % 500, 9, 99, 80], "area": 7920, "iscrowd": 0}
                for i in range(count)
            ],
            "categories": [{"id": 1, "name": "object"}],
        }
        for split in ("train", "val"):
            (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        with patch.dict(os.environ, DETR_LITE_CACHE=str(Path(folder) / "cache")):
            yield root


def _name(index: int) -> str:
    return f"{index:06}.jpg"


def _photograph(path: Path, seed: int) -> None:
    """Soft shapes with the noise of a sensor."""
    rng = np.random.default_rng(seed)
    width, height = SIZE_WH
    shapes = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), np.uint8))
    smooth = np.asarray(shapes.resize(SIZE_WH, Image.Resampling.BICUBIC))
    noisy = smooth + rng.normal(0, 14, (height, width, 3)).astype(np.float32)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=QUALITY)
