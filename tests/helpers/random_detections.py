"""Random ground truth and detections in arrays, and the same as COCO's files have them."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detr_lite.structures import Category, DetectionArrays, GroundTruth

SIZE_WH = (300, 200)


def random_case(seed: int, images: int = 25, classes: int = 4) -> tuple[GroundTruth, DetectionArrays]:
    """Crowds, empty images, and a last class without objects; detections that hit, miss, repeat and confuse classes."""
    rng = np.random.default_rng(seed)
    per_image = rng.choice([0, 1, 7], images)
    image = np.repeat(np.arange(images), per_image)
    count = len(image)
    labels = rng.integers(0, max(1, classes - 1), count)
    boxes_xywh = np.column_stack([*rng.uniform(0, 150, (2, count)), *np.exp(rng.uniform(2, 5, (2, count)))])
    areas = 0.8 * boxes_xywh[:, 2] * boxes_xywh[:, 3]
    truth = GroundTruth(images, image, labels, boxes_xywh, areas, rng.random(count) < 0.15)

    source = np.sort(rng.integers(0, count, 2 * count))
    is_wrong = rng.random(len(source)) < 0.2
    found = boxes_xywh[source] + rng.normal(0, 4, (len(source), 4))
    found[:, 2:] = np.abs(found[:, 2:])
    confused = np.where(is_wrong, (labels[source] + 1) % classes, labels[source])
    scores = rng.random(len(source)).round(6)
    return truth, DetectionArrays(image[source], confused, found.round(3), scores)


def perfect_detections(truth: GroundTruth) -> DetectionArrays:
    """Each object is found, crowd regions too."""
    return DetectionArrays(truth.image_index, truth.labels, truth.boxes_xywh, np.full(len(truth.labels), 0.9))


def without_detections() -> DetectionArrays:
    nothing = np.zeros(0, dtype=np.int64)
    return DetectionArrays(nothing, nothing, np.zeros((0, 4)), np.zeros(0))


def categories(count: int) -> tuple[Category, ...]:
    return tuple(Category(number, f"class {number}") for number in range(1, count + 1))


def as_coco(
    truth: GroundTruth, detections: DetectionArrays, listed: tuple[Category, ...]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """An annotation file's and a results file's content, with ids from 1."""
    ids = [category.id for category in listed]
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": SIZE_WH[0], "height": SIZE_WH[1]}
            for number in range(1, truth.num_images + 1)
        ],
        "categories": [{"id": category.id, "name": category.name} for category in listed],
        "annotations": [
            {"id": number, "image_id": image + 1, "category_id": ids[label], "bbox": box, "area": area}
            | {"iscrowd": int(is_crowd)}
            for number, (image, label, box, area, is_crowd) in enumerate(
                zip(
                    truth.image_index.tolist(),
                    truth.labels.tolist(),
                    truth.boxes_xywh.tolist(),
                    truth.areas.tolist(),
                    truth.is_crowd.tolist(),
                    strict=True,
                ),
                start=1,
            )
        ],
    }
    rows = zip(
        detections.image_index.tolist(),
        detections.labels.tolist(),
        detections.boxes_xywh.tolist(),
        detections.scores.tolist(),
        strict=True,
    )
    results = [
        {"image_id": image + 1, "category_id": ids[label], "bbox": box, "score": score}
        for image, label, box, score in rows
    ]
    return content, results


def run_pycocotools(
    folder: Path, truth: dict[str, Any], results: list[dict[str, Any]], **params: list[Any]
) -> tuple[list[float], str]:
    """pycocotools as in its documentation, from files. Returns the metrics and what it printed."""
    reference, printed = accumulated(folder, truth, results, **params)
    return reference.stats.tolist(), printed


def accumulated(
    folder: Path, truth: dict[str, Any], results: list[dict[str, Any]], **params: Any
) -> tuple[COCOeval, str]:
    """pycocotools' own object after an evaluation with these parameters, and what it printed."""
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "detections.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        coco = COCO(str(folder / "truth.json"))
        # It cannot load an empty list of results.
        found = coco.loadRes(str(folder / "detections.json")) if results else COCO()
        if not results:
            found.dataset = {**truth, "annotations": []}
            found.createIndex()
        reference = COCOeval(coco, found, "bbox")
        for name, value in params.items():
            setattr(reference.params, name, value)
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    return reference, printed.getvalue()
