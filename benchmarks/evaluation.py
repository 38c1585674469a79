"""Seconds that COCO's metrics take on random detections: detr_lite's engine beside faster-coco-eval and pycocotools."""

import contextlib
import gc
import importlib.util
import io
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from detr_lite.structures import Category, DetectionArrays, GroundTruth

DETECTIONS, CLASSES, OBJECTS = 100, 80, 7
"""Of each image; objects on average, as in COCO."""

MOST_FOR_PYCOCOTOOLS = 5000
"""Images up to which pycocotools is timed: it takes minutes, and gigabytes for its dictionaries."""

Compute = Callable[[GroundTruth, DetectionArrays, Sequence[Category]], tuple[float, list[float]]]
"""Returns the seconds and the twelve numbers."""


def evaluation_table(images: Sequence[int]) -> str:
    """A markdown table of processor seconds for each number of images, on one core."""
    _bind_to_one_core()
    engines: dict[str, Compute] = {"hotcoco": _with("hotcoco"), "pycocotools": _with("pycocotools")}
    rows = [
        "| images | detections | hotcoco (s) | faster-coco-eval (s) | pycocotools (s) | largest difference |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    has_faster = importlib.util.find_spec("faster_coco_eval") is not None
    if has_faster:
        engines["faster-coco-eval"] = _faster_coco_eval
    rng = np.random.default_rng(0)
    categories = [Category(number, f"class {number}") for number in range(1, CLASSES + 1)]
    for count in tqdm(images, desc="evaluating", unit="dataset", leave=False, disable=None):
        truth, detections = random_data(rng, count)
        used = {name: compute for name, compute in engines.items() if _is_used(name, count)}
        found = {name: compute(truth, detections, categories) for name, compute in used.items()}
        seconds, numbers = found["hotcoco"]
        differences = [np.abs(np.subtract(numbers, others)).max() for name, (_, others) in found.items()]
        cells = [
            f"{found[name][0]:.2f} ({found[name][0] / seconds:.0f} x)" if name in found else "-"
            for name in ("faster-coco-eval", "pycocotools")
        ]
        total = len(detections.scores)
        rows.append(f"| {count:,} | {total:,} | {seconds:.2f} | {' | '.join(cells)} | {max(differences):.0e} |")
    notes = [
        f"Processor seconds of one core; {DETECTIONS} detections in an image, {CLASSES} classes. hotcoco and "
        "pycocotools: from arrays to the twelve numbers and those of each class. faster-coco-eval: from dictionaries "
        "that were made before to the twelve numbers. The largest difference is that of any of the twelve numbers from "
        "hotcoco's.",
    ]
    if not has_faster:
        notes.append("faster-coco-eval is not installed (pip install -e '.[dev]').")
    return "\n".join([*rows, "", *notes])


def random_data(rng: np.random.Generator, images: int) -> tuple[GroundTruth, DetectionArrays]:
    """Objects and detections, of which a third lie near an object of their class, so that there is much to match."""
    image = np.repeat(np.arange(images), rng.poisson(OBJECTS, images))
    boxes_xywh = np.column_stack([rng.uniform(0, 500, (len(image), 2)), np.exp(rng.uniform(2, 6, (len(image), 2)))])
    labels = rng.integers(0, CLASSES, len(image))
    truth = GroundTruth(
        images, image, labels, boxes_xywh, boxes_xywh[:, 2] * boxes_xywh[:, 3], rng.random(len(image)) < 0.01
    )
    found_image = np.repeat(np.arange(images), DETECTIONS)
    count = len(found_image)
    found_xywh = np.column_stack([rng.uniform(0, 500, (count, 2)), np.exp(rng.uniform(2, 6, (count, 2)))])
    found_labels = rng.integers(0, CLASSES, count)
    ends = np.searchsorted(image, np.arange(images + 1))
    objects = np.diff(ends)[found_image]
    source = ends[found_image] + (rng.random(count) * objects).astype(np.int64)
    is_near = (rng.random(count) < 1 / 3) & (objects > 0)
    near = source[is_near]
    found_labels[is_near] = labels[near]
    found_xywh[is_near] = np.abs(
        boxes_xywh[near] + 0.1 * boxes_xywh[near, 2:].mean(1)[:, None] * rng.normal(size=(len(near), 4))
    )
    return truth, DetectionArrays(found_image, found_labels, found_xywh.round(3), rng.random(count).round(6))


def _with(engine: Any) -> Compute:
    from detr_lite.evaluation.coco_map import evaluate_detections

    def compute(
        truth: GroundTruth, detections: DetectionArrays, categories: Sequence[Category]
    ) -> tuple[float, list[float]]:
        seconds, evaluation = _timed(lambda: evaluate_detections(truth, detections, categories, engine))
        return seconds, list(evaluation.metrics.values())

    return compute


def _faster_coco_eval(
    truth: GroundTruth, detections: DetectionArrays, categories: Sequence[Category]
) -> tuple[float, list[float]]:
    from faster_coco_eval import COCO, COCOeval_faster

    from detr_lite.evaluation.engines import coco_entries  # not before the process is bound to one core

    content = {
        "images": [{"id": number} for number in range(1, truth.num_images + 1)],
        "categories": [{"id": category.id, "name": category.name} for category in categories],
        "annotations": coco_entries(truth, area=truth.areas, iscrowd=truth.is_crowd.astype(np.int64)),
    }
    results = coco_entries(detections, score=detections.scores)

    def evaluate() -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(content)
            evaluation = COCOeval_faster(coco, coco.loadRes(results), "bbox", print_function=lambda *_: None)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation

    seconds, evaluation = _timed(evaluate)
    return seconds, [float(value) for value in evaluation.stats[:12]]


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Processor time, to which other programs on the core add nothing."""
    gc.collect()
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def _is_used(name: str, images: int) -> bool:
    return name != "pycocotools" or images <= MOST_FOR_PYCOCOTOOLS


def _bind_to_one_core() -> None:
    os.environ["RAYON_NUM_THREADS"] = "1"  # of hotcoco, which reads it at its first evaluation
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
