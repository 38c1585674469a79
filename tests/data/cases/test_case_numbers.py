"""AP depends on images, boxes, classes and scores alone: on no id, no wrong area, no object that nothing can find."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detr_lite.data.records import Split
from detr_lite.evaluation.coco_map import METRICS, CocoEvaluation, evaluate_detections
from detr_lite.structures import DetectionArrays
from tests.data.cases.test_case_boxes import (
    all_areas_are_0,
    every_object_is_listed_twice,
    numbers_are_in_quotes,
    three_boxes_are_clicks,
)
from tests.data.cases.test_case_ids import KINDS_OF_IDS
from tests.data.cases.test_case_wholes import a_grid_of_400
from tests.helpers.case_data import CaseData, draw_dataset

Splits = dict[str, Split]


def imperfect_detections(split: Split) -> DetectionArrays:
    """Most objects of a sound split, moved a little, some of a wrong class, and some that are nowhere."""
    generator = np.random.default_rng(5)
    truth = split.ground_truth
    kept = np.flatnonzero(generator.random(len(truth.labels)) < 0.85)
    jitter = generator.normal(0, 0.08, (len(kept), 4)) * np.tile(truth.boxes_xywh[kept, 2:], 2)
    is_wrong = generator.random(len(kept)) < 0.1
    labels = np.where(is_wrong, 1 - truth.labels[kept], truth.labels[kept])
    nowhere = generator.integers(0, truth.num_images, 5)
    return DetectionArrays(
        image_index=np.concatenate([truth.image_index[kept], nowhere]),
        labels=np.concatenate([labels, np.zeros(5, dtype=np.int64)]),
        boxes_xywh=np.concatenate([truth.boxes_xywh[kept] + jitter, np.tile([1.0, 1.0, 9.0, 9.0], (5, 1))]),
        scores=generator.permutation(len(kept) + 5) / 100,
    )


def evaluate(split: Split, detections: DetectionArrays) -> CocoEvaluation:
    return evaluate_detections(split.ground_truth, detections, split.categories)


def perfect_detections(split: Split) -> DetectionArrays:
    truth = split.ground_truth
    return DetectionArrays(truth.image_index, truth.labels, truth.boxes_xywh, np.linspace(1, 0.5, len(truth.labels)))


def test_the_metrics_of_the_sound_dataset_are_those_of_pycocotools(sound: Splits, sound_data: Path) -> None:
    split = sound["train"]
    detections = imperfect_detections(split)
    entries = [
        {"image_id": split.image_ids[image], "category_id": split.categories[label].id, "bbox": box, "score": score}
        for image, label, box, score in zip(
            detections.image_index.tolist(),
            detections.labels.tolist(),
            detections.boxes_xywh.tolist(),
            detections.scores.tolist(),
            strict=True,
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads((sound_data / "annotations" / "instances_train.json").read_text())
        truth.createIndex()
        reference = COCOeval(truth, truth.loadRes(entries), "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    metrics = evaluate(split, detections).metrics
    assert [metrics[name] for name in METRICS] == reference.stats.tolist()
    assert 0.2 < metrics["AP"] < 0.9


@pytest.mark.parametrize("fault", [*KINDS_OF_IDS, numbers_are_in_quotes, every_object_is_listed_twice, all_areas_are_0])
def test_the_metrics_are_the_same_to_the_last_bit(
    read_spoiled: Callable[..., Splits], sound: Splits, fault: Callable[[CaseData], None]
) -> None:
    detections = imperfect_detections(sound["train"])
    spoiled = read_spoiled(fault)["train"]
    assert evaluate(spoiled, detections).metrics == evaluate(sound["train"], detections).metrics


def test_one_object_with_annotation_id_0_is_found(read_spoiled: Callable[..., Splits]) -> None:
    def one_object_of_id_0(data: CaseData) -> None:
        data.val.update(images=data.val["images"][:1], annotations=[{**data.val["annotations"][0], "id": 0}])

    val = read_spoiled(one_object_of_id_0)["val"]
    assert evaluate(val, perfect_detections(val)).metrics["AP"] == pytest.approx(1.0)


def test_areas_of_0_do_not_make_large_objects_small(read_spoiled: Callable[..., Splits], tmp_path: Path) -> None:
    draw_dataset(tmp_path / "drawn", size=(400, 400), largest=150)
    train = read_spoiled(all_areas_are_0, source=tmp_path / "drawn")["train"]
    areas = train.ground_truth.boxes_xywh[:, 2:].prod(axis=1)
    assert (areas > 96**2).any()
    metrics = evaluate(train, perfect_detections(train)).metrics
    assert metrics["APs"] == -1
    assert metrics["APl"] == pytest.approx(1.0)


def test_a_click_cannot_be_missed(read_spoiled: Callable[..., Splits], sound: Splits) -> None:
    train = read_spoiled(three_boxes_are_clicks)["train"]
    assert len(train.ground_truth.labels) == 13
    assert evaluate(train, perfect_detections(sound["train"])).metrics["AR100"] == pytest.approx(1.0)


def test_more_objects_than_coco_counts_are_said_with_the_ap_that_counts_them(
    read_spoiled: Callable[..., Splits],
) -> None:
    val = read_spoiled(a_grid_of_400)["val"]
    evaluation = evaluate(val, perfect_detections(val))
    assert evaluation.metrics["AP"] == pytest.approx(0.25, abs=0.01)
    assert evaluation.max_detections == 400
    assert evaluation.APmax == pytest.approx(1.0)
    assert "400" in evaluation.summary()


def test_without_objects_there_is_no_ap_and_the_summary_says_so(read_spoiled: Callable[..., Splits]) -> None:
    val = read_spoiled(lambda data: data.val.update(annotations=[]))["val"]
    nothing = DetectionArrays(*(np.zeros((0, *shape), dtype=kind) for shape, kind in SHAPES))
    evaluation = evaluate(val, nothing)
    assert set(evaluation.metrics.values()) == {-1}
    assert "no objects" in evaluation.summary()


SHAPES = (((), np.int64), ((), np.int64), ((4,), np.float64), ((), np.float64))
