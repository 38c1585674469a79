"""Time and memory of opening a dataset of COCO's size, for the first time and from the cache."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from tqdm import tqdm

MEGABYTE = 1_000_000
CATEGORIES = 80


def reading_table(images: int, annotations: int) -> str:
    """Write a dataset with empty image files into a temporary folder, and open it twice, each in its own process."""
    with tempfile.TemporaryDirectory(prefix="detr_lite_reading_") as folder:
        root = Path(folder) / "data"
        file = write_dataset(root, images, annotations)
        lines = [
            f"{images:,} images, {annotations:,} annotations, {file.stat().st_size / MEGABYTE:,.0f} MB",
            "",
            "| opening | seconds | of a processor | most memory, MB | kept, MB |",
            "| --- | --- | --- | --- | --- |",
        ]
        for name in ("first", "from the cache"):
            environment = {**os.environ, "DETR_LITE_CACHE": str(Path(folder) / "cache")}
            command = [sys.executable, "-m", "benchmarks.reading", str(root)]
            ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found = json.loads(ended.stdout)
            lines.append(
                f"| {name} | {found['seconds']:.1f} | {found['cpu_seconds']:.1f} | {found['peak'] / MEGABYTE:,.0f} | "
                f"{found['kept'] / MEGABYTE:,.0f} |"
            )
    return "\n".join(lines)


def write_dataset(root: Path, images: int, annotations: int) -> Path:
    """A dataset with polygons as long as COCO's; returns the annotation file. Nothing about it can be learned."""
    (root / "annotations").mkdir(parents=True)
    (root / "train").mkdir()
    for number in range(images):
        (root / "train" / f"{number:012d}.jpg").touch()
    file = root / "annotations" / "instances_train.json"
    with file.open("w") as stream:
        stream.write('{"info": {}, "licenses": [], "images": [')
        stream.writelines(_separated(_image(number) for number in range(images)))
        stream.write('], "annotations": [')
        shown = tqdm(_annotations(images, annotations), "writing", annotations, leave=False, disable=None)
        stream.writelines(_separated(shown))
        categories = [{"supercategory": "", "id": id, "name": f"class {id}"} for id in range(1, CATEGORIES + 1)]
        stream.write(f'], "categories": {json.dumps(categories)}}}')
    return file


def open_dataset(root: Path) -> dict[str, float]:
    """Seconds and bytes that opening takes in this process. The image files, which are empty, are not checked."""
    from detr_lite.data import reading

    before, start, cpu_start = _resident(), time.perf_counter(), time.process_time()
    with patch.object(reading, "check_images", lambda raw, *_: raw):
        split = reading.examine(root, ("train",), reading.Reading())["train"]
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    kept = _resident() - before
    assert len(split.images.labels) > 0
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak": peak, "kept": kept}


def _resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _separated(entries: Iterable[Any]) -> Iterator[str]:
    for place, entry in enumerate(entries):
        yield f"{', ' if place else ''}{json.dumps(entry)}"


def _image(number: int) -> dict[str, object]:
    name = f"{number:012d}.jpg"
    return {
        "license": 3, "file_name": name, "coco_url": f"http://images.cocodataset.org/train2017/{name}", "height": 480,
        "width": 640, "date_captured": "2013-11-14 11:18:45", "id": 5 * number + 9,
        "flickr_url": "http://farm9.staticflickr.com/8186/8119368305_4e622c8349_z.jpg",
    }  # fmt: skip


def _annotations(images: int, annotations: int) -> Iterator[dict[str, object]]:
    random = np.random.default_rng(0)
    for number in range(annotations):
        x, y, width, height = (random.integers(8, 300, 4) + random.integers(0, 100, 4) / 100).tolist()
        outline = np.round(x + width * random.random(2 * int(random.integers(10, 34))), 2).tolist()
        yield {
            "segmentation": [outline], "area": width * height / 2, "iscrowd": 0,
            "image_id": 5 * int(random.integers(images)) + 9, "bbox": [x, y, width, height],
            "category_id": 1 + int(random.integers(CATEGORIES)), "id": 100_000 + number,
        }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(open_dataset(Path(sys.argv[1]))))
