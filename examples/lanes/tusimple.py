"""TuSimple's format: reading, writing, and drawn roads in it. Without torch, as drawing starts processes."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from detr_lite.cores import usable_cores
from detr_lite.errors import DetrLiteError
from detr_lite.text import reason_of
from examples.lanes.roads import LEVELS, ROWS, draw_road

TRAIN, TEST = "label_data*.json", "test_label.json"
"""Names of the annotations: TuSimple's own."""
VERSION = 1
"""Of the drawn roads: increase it when the same seed draws others."""
ROADS_WORTH_A_PROCESS = 100
"""Fewer roads are drawn without other processes, which take seconds to start."""


@dataclass(frozen=True)
class Labeled:
    """A picture and its lanes."""

    path: Path
    raw_file: str
    """Its name in the annotations."""
    lanes: Float[np.ndarray, "lane row"]
    """x in pixels; NaN where there is no lane."""
    rows: Float[np.ndarray, " row"]


def read_labels(root: Path, pattern: str) -> list[Labeled]:
    """The pictures of all annotation files of this name in TuSimple's format, one JSON object in a line.

    Errors: no such file, or a line that is not complete.
    """
    files = sorted(root.glob(pattern))
    if not files:
        raise DetrLiteError(f"{root}: has no {pattern}, TuSimple's annotations; name the folder that holds them")
    return [labeled for file in files for labeled in _read_file(root, file)]


def _read_file(root: Path, file: Path) -> Iterator[Labeled]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
            rows = np.array(content["h_samples"], dtype=float)
            lanes = np.array(content["lanes"], dtype=float).reshape(-1, len(rows))
            name = str(content["raw_file"])
        except (KeyError, TypeError, ValueError) as error:
            raise DetrLiteError(f"{file}, line {number}: no labels of TuSimple ({reason_of(error)})") from error
        yield Labeled(root / name, name, np.where(lanes >= 0, lanes, np.nan), rows)


def label_line(
    raw_file: str, lanes: Sequence[Float[np.ndarray, " row"]], rows: Sequence[float] | Sequence[int], **more: Any
) -> str:
    """A line of TuSimple's annotations or results; x is -2 where there is no lane."""
    values = [[-2 if np.isnan(x) else round(float(x), 1) for x in lane] for lane in lanes]
    return json.dumps({"raw_file": raw_file, "lanes": values, "h_samples": list(rows), **more}) + "\n"


def write_results(
    file: Path, found: Sequence[tuple[Labeled, Sequence[Float[np.ndarray, " row"]]]], run_ms: float
) -> None:
    """Lanes that were found, in the format that TuSimple's evaluation reads.

    Args:
        run_ms: mean time of an image, in milliseconds.
    """
    file.write_text("".join(label_line(at.raw_file, lanes, at.rows.tolist(), run_time=run_ms) for at, lanes in found))


def make_roads(root: Path, level: str, train: int, val: int, seed: int = 0) -> None:
    """Draw the roads of a level into a folder in TuSimple's format, which must not exist.

    The same seed gives the same roads with any number of processes.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as unfinished:
        folder = Path(unfinished) / "roads"
        for part, (name, count) in enumerate((("label_data.json", train), (TEST, val))):
            images = folder / "clips" / str(part)
            images.mkdir(parents=True)
            draw = partial(_draw_file, images, level, seed, part)
            lines = list(map(draw, range(count))) if count < ROADS_WORTH_A_PROCESS else _in_parallel(draw, count)
            (folder / name).write_text("".join(lines))
        folder.rename(root)


def _in_parallel(draw: Callable[[int], str], count: int) -> list[str]:
    with ProcessPoolExecutor(usable_cores(), mp_context=get_context("spawn")) as pool:
        return list(pool.map(draw, range(count), chunksize=50))


def _draw_file(images: Path, level: str, seed: int, part: int, number: int) -> str:
    random = np.random.default_rng([VERSION, seed, list(LEVELS).index(level), part, number])
    road = draw_road(LEVELS[level], random)
    path = images / f"{number:05}.jpg"
    Image.fromarray(road.image).save(path, quality=92)
    return label_line(path.relative_to(images.parents[1]).as_posix(), road.lanes, ROWS)
