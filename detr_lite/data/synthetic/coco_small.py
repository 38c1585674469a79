"""Generates `coco_small`: synthetic scenes in COCO format, a dataset that needs no download."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import PIL
from tqdm import tqdm

from detr_lite.cores import usable_cores
from detr_lite.data.synthetic.rendering import SPLITS, DrawnRecord, draw_files, draw_image, draw_scene, image_id
from detr_lite.data.synthetic.shapes import CATEGORY_IDS
from detr_lite.errors import DetrLiteError

__all__ = ["draw_image", "draw_scene", "image_id", "make_coco_small"]

logger = logging.getLogger(__name__)

VERSION = "1.0"
"""Of the generator: increase it when the same seed gives other images."""
IMAGES_WORTH_A_PROCESS = 50
"""Fewer images are not worth starting another process."""
LICENSE = {
    "id": 1,
    "name": "CC0 1.0 (public domain): drawn by the program",
    "url": "https://creativecommons.org/publicdomain/zero/1.0/",
}


def make_coco_small(
    root: Path, seed: int = 0, train_images: int = 2000, val_images: int = 300, num_workers: int | None = None
) -> None:
    """Generate the dataset in `root`, which must be missing or empty.

    The same seed gives the same bytes with any number of processes. The dataset is written beside `root` and renamed
    when it is complete, so `root` is never incomplete, and of two processes that generate it at once the first wins.

    Args:
        num_workers: number of processes; by default one per usable core.

    Raises `DetrLiteError` if `root` is not empty or cannot be written.
    """
    root = root.resolve()
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise DetrLiteError(
            f"{root} exists and is not an empty folder: remove it, or choose another folder for the data"
        )
    total = train_images + val_images
    processes = num_workers or max(1, min(usable_cores(), total // IMAGES_WORTH_A_PROCESS))
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent, ignore_cleanup_errors=True) as unfinished:
            folder = Path(unfinished) / root.name
            for name in ("annotations", *SPLITS):
                (folder / name).mkdir(parents=True)
            draw = draw_files if processes == 1 else partial(_draw_in_parallel, processes=processes)
            # Closed before the folder is removed, as a process that is still running would write into it again.
            with closing(draw(folder, seed, train_images, val_images)) as drawn:
                records = list(_with_progress(drawn, total, root))
            for split in SPLITS:
                instances = _instances([record for record in records if record["split"] == split])
                _write_json(folder / "annotations" / f"instances_{split}.json", instances)
            _write_json(folder / "provenance.json", _provenance(records, seed))
            _move_into_place(folder, root)
    except OSError as error:
        raise DetrLiteError(f"{root}: the synthetic dataset cannot be written: {error}") from error


def _draw_in_parallel(
    folder: Path, seed: int, train_images: int, val_images: int, processes: int
) -> Generator[DrawnRecord, None, None]:
    """Records in the order of the images, which the processes render in turn."""
    # One process per core, so further threads of numpy would only slow them down.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    with ExitStack() as stack:
        running = []
        for first in range(processes):
            numbers = (seed, train_images, val_images, first, processes)
            process = subprocess.Popen(
                # -P: no imports from the current folder, which may have files named like standard modules.
                [sys.executable, "-P", "-m", "detr_lite.data.synthetic.rendering", str(folder), *map(str, numbers)],
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            running.append(process)
        for index in range(train_images + val_images):
            process = running[index % processes]
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            if not line:
                reason = process.stderr.read().strip().splitlines()
                raise OSError(reason[-1] if reason else f"a drawing process ended with code {process.wait()}")
            record: DrawnRecord = json.loads(line)
            yield record


def _with_progress(records: Iterable[DrawnRecord], total: int, root: Path) -> Iterator[DrawnRecord]:
    """A progress bar on a terminal; otherwise log after each quarter."""
    has_terminal = sys.stderr.isatty()
    logger.info("generating %d images in %s (only once)", total, root)
    for done, record in enumerate(tqdm(records, total=total, unit=" images", disable=not has_terminal), start=1):
        yield record
        if not has_terminal and done * 4 // total > (done - 1) * 4 // total:
            logger.info("generated %d of %d images", done, total)


def _instances(records: list[DrawnRecord]) -> dict[str, Any]:
    """One split as a COCO `instances` file. `area` is that of the box, as there are no segmentations."""
    shapes = [(record["id"], shape) for record in records for shape in record["objects"]]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": CATEGORY_IDS[shape["category"]],
            "bbox": shape["bbox"],
            "area": shape["bbox"][2] * shape["bbox"][3],
            "iscrowd": int(shape["is_crowd"]),
        }
        for number, (image, shape) in enumerate(shapes, start=1)
    ]
    return {
        "info": {
            "description": "coco_small: drawn scenes made by detr_lite",
            "version": VERSION,
            "year": 2026,
            "contributor": "detr_lite",
            "url": "",
            "date_created": "",
        },
        "licenses": [LICENSE],
        "images": [
            {key: record[key] for key in ("id", "file_name", "width", "height")} | {"license": LICENSE["id"]}
            for record in records
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name, "supercategory": "shape"} for name, number in CATEGORY_IDS.items()],
    }


def _provenance(records: list[DrawnRecord], seed: int) -> dict[str, Any]:
    splits = {}
    for split in SPLITS:
        own = [record for record in records if record["split"] == split]
        crowds = sum(shape["is_crowd"] for record in own for shape in record["objects"])
        splits[split] = {
            "images": len(own),
            "images_without_objects": sum(not record["objects"] for record in own),
            "objects": sum(len(record["objects"]) for record in own) - crowds,
            "crowd_regions": crowds,
            "distractors": sum(record["distractors"] for record in own),
        }
    return {
        "generator": "detr_lite.data.synthetic.coco_small.make_coco_small",
        "version": VERSION,
        "seed": seed,
        "splits": splits,
        "license": LICENSE["name"],
        "source": "Every pixel is drawn by the program from random numbers; no photograph and no other data is used.",
        "drawn_with": {"numpy": np.__version__, "pillow": PIL.__version__},
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _move_into_place(folder: Path, root: Path) -> None:
    try:
        folder.rename(root)
    except OSError:
        # Another process was faster and generated the same dataset.
        if not (root / "provenance.json").is_file():
            raise
