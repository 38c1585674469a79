"""`growth`: the parts that see whole datasets, at many sizes."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.growth_measure import Case
from detr_lite.data import reading
from detr_lite.data.analysis.near_duplicates import near_pairs
from detr_lite.data.analysis.outliers import find_odd_boxes
from detr_lite.data.analysis.statistics import split_statistics
from detr_lite.data.checks.annotations import check_annotations
from detr_lite.data.fingerprint import fingerprint
from detr_lite.data.ground_truth import GroundTruthByFile
from detr_lite.data.name_matching import match_names
from detr_lite.data.records import RawSplit, Split, make_split
from detr_lite.data.report import SplitReport
from detr_lite.data.results_file import read_results
from detr_lite.data.sampler import BucketedBatchSampler, SeededBatchSampler
from detr_lite.data.split_cache import load_split, save_split
from detr_lite.evaluation.analysis import analyze
from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.evaluation.packing import merge_detections
from detr_lite.evaluation.result_files import write_detections
from detr_lite.structures import Category, DetectionArrays, GroundTruth

OBJECTS, CLASSES, DETECTIONS, IMAGES = 8, 20, 50, 400
"""Of each image, of the data, of each image, and in all, where they are not what grows."""

Prepare = Callable[[int, Path], Callable[[], object]]


def data_cases() -> list[Case]:
    return [
        Case("open from the cache", "images", (4000, 64000), _open_cached),
        Case("read COCO JSON and check annotations", "images", (500, 8000), _read),
        Case("check of annotations", "images", (4000, 64000), _check),
        Case("fingerprint", "images", (4000, 64000), _fingerprint),
        Case("epoch of the sampler", "images", (2000, 32000), _epoch),
        Case("ground truth by file name, of all images", "images", (250, 4000), _by_name),
        Case("near duplicates of doctor", "images", (2000, 16000), _near, "each image is compared with each"),
        Case("statistics and odd boxes of doctor", "images", (1000, 16000), _doctor),
        Case("COCO metrics", "images", (200, 3200), _of_images(evaluate_detections)),
        Case("analysis of the report", "images", (100, 1600), _of_images(analyze)),
        Case("write detections.json", "images", (100, 1600), _write),
        Case("read detections.json", "images", (100, 1600), _read_results),
        Case("check of annotations", "objects", (8, 128), _check_objects),
        Case("odd boxes of doctor", "objects", (8, 128), _odd_objects, "boxes of an image are compared in pairs"),
        Case("COCO metrics", "objects", (8, 128), _of_objects(evaluate_detections)),
        Case("analysis of the report", "objects", (8, 128), _of_objects(analyze)),
        Case("COCO metrics", "classes", (40, 640), _of_classes(evaluate_detections)),
        Case("analysis of the report", "classes", (40, 640), _of_classes(analyze), "the confusion matrix has two axes"),
        Case("categories matched by name", "classes", (250, 4000), _match),
        Case("statistics and odd boxes of doctor", "classes", (40, 640), _doctor_classes),
        Case("epochs of the samplers of all ranks", "ranks", (1, 16), _epoch_ranks),
        Case("detections of all ranks put together", "ranks", (1, 16), _merge, "sorting by image"),
    ]


def random_truth(images: int, objects: int = OBJECTS, classes: int = CLASSES) -> GroundTruth:
    random = np.random.default_rng(0)
    image = np.repeat(np.arange(images), objects)
    boxes_xywh = np.column_stack(
        [*random.uniform(0, 400, (2, len(image))), *np.exp(random.uniform(2, 4, (2, len(image))))]
    )
    labels = random.integers(0, classes, len(image))
    return GroundTruth(images, image, labels, boxes_xywh, boxes_xywh[:, 2:].prod(axis=1), np.zeros(len(image), bool))


def random_detections(truth: GroundTruth, classes: int = CLASSES, each: int = DETECTIONS) -> DetectionArrays:
    """A third of them near objects of their image."""
    random = np.random.default_rng(1)
    image = np.repeat(np.arange(truth.num_images), each)
    objects = len(truth.labels) // truth.num_images
    near = image * objects + random.integers(0, objects, len(image))
    boxes_xywh = truth.boxes_xywh[near] + random.normal(0, 3, (len(image), 4))
    is_far = random.random(len(image)) < 2 / 3
    boxes_xywh[is_far, :2] = random.uniform(0, 400, (int(is_far.sum()), 2))
    labels = np.where(is_far, random.integers(0, classes, len(image)), truth.labels[near])
    boxes_xywh[:, 2:] = np.abs(boxes_xywh[:, 2:]) + 1
    return DetectionArrays(image, labels, boxes_xywh.round(3), random.random(len(image)).round(6))


def categories(count: int) -> tuple[Category, ...]:
    return tuple(Category(number + 1, f"class {number + 1}") for number in range(count))


def raw_split(images: int, objects: int = OBJECTS, classes: int = CLASSES, root: Path = Path("data")) -> RawSplit:
    truth = random_truth(images, objects, classes)
    names = [f"{number:09d}.jpg" for number in range(images)]
    return RawSplit(
        categories=categories(classes),
        image_ids=list(range(images)),
        names=names,
        paths=[str(root / name) for name in names],
        sizes_wh=np.tile([640.0, 480.0], (images, 1)),
        image_index=truth.image_index,
        labels=truth.labels,
        boxes_xywh=truth.boxes_xywh,
        areas=truth.areas,
        is_crowd=truth.is_crowd,
        origin=np.arange(len(truth.labels)),
        name_annotation=str,
    )


def some_split(images: int, objects: int = OBJECTS, classes: int = CLASSES, root: Path = Path("data")) -> Split:
    raw = raw_split(images, objects, classes, root)
    return make_split(root, "train", root / "train.json", "COCO", raw, SplitReport("train.json"))


def _open_cached(images: int, folder: Path) -> Callable[[], object]:
    split = some_split(images, root=folder)
    (folder / "train.json").touch()
    save_split(folder / "split.npz", split, [str(folder / "train.json")], list(split.images.paths))
    return partial(load_split, folder / "split.npz", [str(folder / "train.json")])


def coco_file(images: int, folder: Path) -> Path:
    truth, file = random_truth(images), folder / "annotations" / "instances_train.json"
    (folder / "train").mkdir()
    file.parent.mkdir()
    content = {
        "images": [{"id": n, "file_name": f"{n:09d}.jpg", "width": 640, "height": 480} for n in range(images)],
        "annotations": [
            {"id": n, "image_id": image, "category_id": label + 1, "bbox": box, "area": area, "iscrowd": 0}
            for n, (image, label, box, area) in enumerate(
                zip(
                    *(c.tolist() for c in (truth.image_index, truth.labels, truth.boxes_xywh, truth.areas)), strict=True
                )
            )
        ],
        "categories": [{"id": each.id, "name": each.name} for each in categories(CLASSES)],
    }
    file.write_text(json.dumps(content))
    return file


def _read(images: int, folder: Path) -> Callable[[], object]:
    coco_file(images, folder)
    for number in range(images):
        (folder / "train" / f"{number:09d}.jpg").touch()

    def read() -> object:
        with (
            patch.object(reading, "check_images", lambda raw, *_: raw),
            patch.object(reading, "load_split", lambda *_: None),
            patch.object(reading, "save_split", lambda file, split, *_: split),
        ):
            return reading.examine(folder, ("train",), reading.Reading())

    return read


def _check(images: int, folder: Path, objects: int = OBJECTS) -> Callable[[], object]:
    raw = raw_split(images, objects)
    return lambda: check_annotations(raw, SplitReport("train.json"), is_training=True)


def _check_objects(objects: int, folder: Path) -> Callable[[], object]:
    return _check(IMAGES, folder, objects)


def _fingerprint(images: int, folder: Path) -> Callable[[], object]:
    return partial(fingerprint, some_split(images))


def _epoch(images: int, folder: Path, rank: int = 0, ranks: int = 1) -> Callable[[], object]:
    heights, widths = np.random.default_rng(0).integers(200, 640, (2, images)).tolist()
    batches = BucketedBatchSampler(
        list(zip(heights, widths, strict=True)), 8, shuffle=True, rank=rank, world_size=ranks
    )
    return lambda: [len(batch) for batch in SeededBatchSampler(batches)]


def _epoch_ranks(ranks: int, folder: Path) -> Callable[[], object]:
    """Each rank runs on a machine or core of its own; here one after the other."""
    epochs = [_epoch(8000, folder, rank, ranks) for rank in range(ranks)]
    return lambda: [epoch() for epoch in epochs]


def _by_name(images: int, folder: Path) -> Callable[[], object]:
    truth = GroundTruthByFile(coco_file(images, folder))
    paths = [Path(f"{number:09d}.jpg") for number in range(images)]
    return lambda: [truth.of(path) for path in paths]


def _near(images: int, folder: Path) -> Callable[[], object]:
    return partial(near_pairs, np.random.default_rng(0).integers(0, 256, (images, 16, 16, 3)).astype(np.uint8))


def _doctor(images: int, folder: Path, classes: int = CLASSES) -> Callable[[], object]:
    split = some_split(images, classes=classes)
    return lambda: (split_statistics(split), find_odd_boxes(split))


def _doctor_classes(classes: int, folder: Path) -> Callable[[], object]:
    return _doctor(4000, folder, classes)


def _odd_objects(objects: int, folder: Path) -> Callable[[], object]:
    return partial(find_odd_boxes, some_split(IMAGES, objects))


def _of_images(function: Callable[..., object]) -> Prepare:
    return lambda images, folder: _evaluated(function, images)


def _of_objects(function: Callable[..., object]) -> Prepare:
    return lambda objects, folder: _evaluated(function, IMAGES, objects)


def _of_classes(function: Callable[..., object]) -> Prepare:
    return lambda classes, folder: _evaluated(function, IMAGES, classes=classes)


def _evaluated(
    function: Callable[..., object], images: int, objects: int = OBJECTS, classes: int = CLASSES
) -> Callable[[], object]:
    truth = random_truth(images, objects, classes)
    return partial(function, truth, random_detections(truth, classes), categories(classes))


def _write(images: int, folder: Path) -> Callable[[], object]:
    detections = random_detections(random_truth(images))
    return partial(write_detections, folder / "detections.json", detections, range(images), categories(CLASSES))


def _read_results(images: int, folder: Path) -> Callable[[], object]:
    _write(images, folder)()
    listed = categories(CLASSES)
    return partial(read_results, folder / "detections.json", range(images), listed, "the data")


def _match(classes: int, folder: Path) -> Callable[[], object]:
    first = [f"Class_{number}" for number in range(classes)]
    return partial(match_names, first, [f"class {number}" for number in range(classes)])


def _merge(ranks: int, folder: Path) -> Callable[[], Any]:
    found = random_detections(random_truth(250))
    parts = [
        DetectionArrays(found.image_index * ranks + rank, found.labels, found.boxes_xywh, found.scores)
        for rank in range(ranks)
    ]
    return partial(merge_detections, parts)
