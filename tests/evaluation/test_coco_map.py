import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detr_lite.evaluation.coco_map import (
    METRICS,
    CocoEvaluation,
    evaluate_detections,
    limit_note,
    most_objects,
    most_objects_of_a_class,
)
from detr_lite.evaluation.engines import Engine
from detr_lite.structures import Category, DetectionArrays, DetrLiteError, GroundTruth
from tests.helpers.random_detections import (
    accumulated,
    as_coco,
    perfect_detections,
    random_case,
    run_pycocotools,
    without_detections,
)

CATEGORIES = (Category(3, "cup"), Category(18, "plate"), Category(57, "fork"), Category(90, "never seen"))


def evaluated(truth: GroundTruth, detections: DetectionArrays) -> CocoEvaluation:
    return evaluate_detections(truth, detections, CATEGORIES)


def selected(truth: GroundTruth, keep: np.ndarray) -> GroundTruth:
    columns = {name: value[keep] for name, value in vars(truth).items() if name != "num_images"}
    return replace(truth, **columns)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_pycocotools_on_files_exactly(seed: int, tmp_path: Path) -> None:
    case = random_case(seed)
    expected, _ = run_pycocotools(tmp_path, *as_coco(*case, CATEGORIES))
    evaluation = evaluated(*case)
    assert list(evaluation.metrics.values()) == expected
    assert 0 < evaluation.metrics["AP"] < 1
    assert all(type(value) is float for value in evaluation.metrics.values())


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_ap_at_other_thresholds_of_iou_is_that_of_pycocotools(engine: Engine, tmp_path: Path) -> None:
    ious = (0.33, 0.5, 0.07, 1.0)
    truth, detections = random_case(1)
    evaluation = evaluate_detections(truth, detections, CATEGORIES, engine, ious=(*ious, 0.33))
    assert evaluation.ious == ious
    reference, _ = accumulated(tmp_path, *as_coco(truth, detections, CATEGORIES), iouThrs=np.array(ious))
    precision = reference.eval["precision"][..., 0, 2]  # all sizes, 100 detections
    for at_iou, value, by_class in zip(precision, evaluation.AP_at_iou, per_class(evaluation), strict=True):
        assert at_iou[at_iou > -1].mean() == value
        expected = [each[each > -1].mean() if (each > -1).any() else -1 for each in at_iou.T]
        assert by_class == expected
    assert evaluation.AP_at_iou[1] == evaluation.metrics["AP50"]
    assert evaluation.metrics == evaluated(truth, detections).metrics
    assert len(set(evaluation.AP_at_iou)) == len(ious)
    assert f"\nAP33  {evaluation.AP_at_iou[0]:.3f}  average precision at IoU 0.33\n" in evaluation.summary()
    header, *rows = evaluation.class_table().splitlines()
    assert header.split()[-4:] == ["AP33", "AP50", "AP7", "AP100"]
    assert rows[0].split()[-4:] == [f"{value:.3f}" for value in evaluation.per_class[0].AP_at_iou]


def per_class(evaluation: CocoEvaluation) -> list[list[float]]:
    """For each threshold, AP of each class."""
    return [list(values) for values in zip(*(result.AP_at_iou for result in evaluation.per_class), strict=True)]


@pytest.mark.parametrize("iou", [0.0, -0.5, 33.0, float("nan")])
def test_a_threshold_that_is_no_iou_is_refused(iou: float) -> None:
    with pytest.raises(DetrLiteError, match=r"^--iou is .*; it must be above 0 and at most 1, such as 0\.33$"):
        evaluate_detections(*random_case(0), CATEGORIES, ious=[0.5, iou])


def test_metric_names_are_in_the_order_that_pycocotools_prints(tmp_path: Path) -> None:
    _, printed = run_pycocotools(tmp_path, *as_coco(*random_case(0), CATEGORIES))
    pattern = r"\((AP|AR)\) @\[ IoU=(\S+) *\| area= *(\S+) \| maxDets= *(\d+) \]"
    names = []
    for kind, iou, area, most in re.findall(pattern, printed):
        if area != "all":
            names.append(kind + area[0])
        elif kind == "AR":
            names.append(kind + most)
        else:
            names.append(kind if ":" in iou else kind + iou[2:])
    assert tuple(names) == METRICS
    assert tuple(evaluated(*random_case(0)).metrics) == METRICS


def test_per_class_metrics_equal_pycocotools_on_each_class_alone(tmp_path: Path) -> None:
    truth, detections = random_case(1)
    evaluation = evaluated(truth, detections)
    files = as_coco(truth, detections, CATEGORIES)
    for label, result in enumerate(evaluation.per_class):
        expected, _ = run_pycocotools(tmp_path, *files, catIds=[result.category.id])
        assert pytest.approx((expected[0], expected[1], expected[8]), abs=1e-12) == (
            result.AP,
            result.AP50,
            result.AR100,
        )
        assert result.objects == int(((truth.labels == label) & ~truth.is_crowd).sum())
    assert evaluation.per_class[-1].objects == 0
    assert evaluation.per_class[-1].AP == -1
    assert evaluation.precision.shape == (10, 101, 4)
    assert evaluation.recall_thresholds == pytest.approx(np.linspace(0, 1, 101))


def test_evaluation_can_be_restricted_to_some_images(tmp_path: Path) -> None:
    truth, detections = random_case(3)
    some = np.arange(0, 25, 3)
    evaluation = evaluate_detections(truth, detections, CATEGORIES, image_indices=some)
    expected, _ = run_pycocotools(tmp_path, *as_coco(truth, detections, CATEGORIES), imgIds=(some + 1).tolist())
    assert list(evaluation.metrics.values()) == expected
    inside = np.isin(truth.image_index, some) & ~truth.is_crowd
    assert sum(result.objects for result in evaluation.per_class) == inside.sum()
    none = np.zeros(0, dtype=np.int64)
    assert evaluate_detections(truth, detections, CATEGORIES, image_indices=none).metrics["AP"] == -1


def test_evaluation_prints_nothing_and_leaves_its_inputs_unchanged(capfd: pytest.CaptureFixture[str]) -> None:
    case, before = random_case(0), random_case(0)
    for engine in ("hotcoco", "pycocotools"):
        evaluate_detections(*case, CATEGORIES, engine)
    for arrays, expected in zip(case, before, strict=True):
        for name, value in vars(expected).items():
            np.testing.assert_array_equal(getattr(arrays, name), value)
    assert capfd.readouterr() == ("", "")


def test_the_order_of_objects_and_images_makes_no_difference_without_ties() -> None:
    truth, detections = random_case(4)
    shuffled = np.random.default_rng(0).permutation(len(truth.labels))
    turned = replace(selected(truth, shuffled), image_index=24 - truth.image_index[shuffled])
    moved = replace(detections, image_index=24 - detections.image_index)
    assert len(np.unique(detections.scores)) == len(detections.scores)
    assert evaluated(turned, moved).metrics == evaluated(truth, detections).metrics


@pytest.mark.parametrize("objects", [0, 1, 7])
def test_perfect_detections_have_an_ap_of_1(objects: int) -> None:
    truth, _ = random_case(4)
    truth = replace(selected(truth, np.arange(objects)), is_crowd=np.zeros(objects, dtype=bool))
    evaluation = evaluated(truth, perfect_detections(truth))
    assert evaluation.metrics["AP"] == pytest.approx(1 if objects else -1)
    assert sum(result.objects for result in evaluation.per_class) == objects


def test_ap_is_0_without_detections() -> None:
    truth, _ = random_case(0)
    evaluation = evaluated(truth, without_detections())
    assert evaluation.metrics["AP"] == evaluation.metrics["AR100"] == 0
    assert [result.AP for result in evaluation.per_class] == [0, 0, 0, -1]


@pytest.mark.parametrize("kind", ["nothing", "crowd regions"])
def test_all_metrics_are_missing_without_objects(kind: str) -> None:
    truth, detections = random_case(0)
    nothing = selected(truth, truth.is_crowd if kind == "crowd regions" else np.zeros(0, dtype=np.int64))
    evaluation = evaluated(nothing, detections)
    assert set(evaluation.metrics.values()) == {-1.0}
    assert "has no objects" in evaluation.missing_reason()
    *lines, reason = evaluation.summary().splitlines()
    assert [line.split()[:2] for line in lines] == [[name, "-"] for name in METRICS]
    assert reason.split()[0] == "-"
    assert reason.endswith(evaluation.missing_reason())


def test_a_size_without_objects_is_named() -> None:
    truth, detections = random_case(0)
    evaluation = evaluated(selected(truth, truth.areas < 90**2), detections)
    assert evaluation.metrics["APl"] == evaluation.metrics["ARl"] == -1 < evaluation.metrics["APm"]
    assert evaluation.missing_reason() == "no value: the ground truth has no large objects"
    assert evaluation.summary().splitlines()[-1].endswith(evaluation.missing_reason())


@pytest.mark.parametrize("spoilt", ["boxes_xywh", "scores"])
def test_detections_that_are_not_finite_are_refused(spoilt: str) -> None:
    truth, _ = random_case(0)
    detections = perfect_detections(truth)
    values = getattr(detections, spoilt).copy()
    values[2] = np.nan
    with pytest.raises(
        DetrLiteError,
        match=rf"^1 of {len(values)} detections are not finite.*nan.*diverged; train with a lower learning rate$",
    ):
        evaluated(truth, replace(detections, **{spoilt: values}))


@pytest.mark.parametrize(("column", "value"), [("image_index", 25), ("image_index", -1), ("labels", 4)])
def test_images_and_labels_that_do_not_exist_are_refused(column: str, value: int) -> None:
    truth, detections = random_case(0)
    wrong = getattr(detections, column).copy()
    wrong[5] = value
    with pytest.raises(ValueError, match=rf"detections: \w+ from .* but there are {25 if 'image' in column else 4}"):
        evaluated(truth, replace(detections, **{column: wrong}))


def crowded(objects: int) -> GroundTruth:
    """That many objects of the first class in one of two images, and ten of the second."""
    count = objects + 10
    columns, rows = np.divmod(np.arange(count), 20)
    boxes_xywh = np.column_stack([20.0 * columns, 20.0 * rows, np.full((count, 2), 15.0)])
    labels = (np.arange(count) >= objects).astype(np.int64)
    image_index = np.ones(count, dtype=np.int64)
    return GroundTruth(2, image_index, labels, boxes_xywh, np.full(count, 225.0), np.zeros(count, dtype=bool))


@pytest.mark.stress
def test_ap_at_the_most_objects_of_a_class_in_an_image(tmp_path: Path) -> None:
    """A faultless detector of 400 objects finds a quarter of them by COCO's count."""
    truth = crowded(400)
    detections = perfect_detections(truth)
    evaluation = evaluated(truth, detections)
    expected, _ = run_pycocotools(tmp_path, *as_coco(truth, detections, CATEGORIES))
    assert list(evaluation.metrics.values()) == expected
    assert pytest.approx(0.2574, abs=1e-4) == evaluation.per_class[0].AP
    assert evaluation.APmax == pytest.approx(1)
    assert evaluation.as_dict() == {**evaluation.metrics, "APmax": evaluation.APmax, "max_detections": 400}
    line = evaluation.summary().splitlines()[12]
    assert line.startswith("APmax 1.000  AP where 400 detections of a class count in an image")
    assert limit_note(truth).startswith("APmax is AP where 400 detections of a class count in an image")
    reference, _ = run_pycocotools(tmp_path, *as_coco(truth, detections, CATEGORIES), maxDets=[1, 10, 400])
    assert evaluate_detections(truth, detections, CATEGORIES, "pycocotools").as_dict() == evaluation.as_dict()
    assert evaluation.APmax == pytest.approx(reference[1])  # AP50, as its AP is always at 100; both are the same here


@pytest.mark.parametrize("objects", [99, 100])
def test_up_to_100_objects_of_a_class_nothing_is_said(objects: int) -> None:
    truth = crowded(objects)
    evaluation = evaluated(truth, perfect_detections(truth))
    assert (most_objects_of_a_class(truth), most_objects(truth)) == (objects, objects + 10)
    assert evaluation.APmax is None
    assert evaluation.as_dict() == evaluation.metrics
    assert "APmax" not in evaluation.summary()
    assert limit_note(truth) is None


def test_crowd_regions_do_not_count_towards_the_limit() -> None:
    truth = replace(crowded(150), is_crowd=np.arange(160) < 140)
    assert (most_objects_of_a_class(truth), most_objects(truth)) == (10, 20)
    assert evaluated(truth, without_detections()).APmax is None
    everything = replace(truth, is_crowd=np.ones(160, dtype=bool))
    assert most_objects_of_a_class(everything) == most_objects(everything) == 0


def test_summary_and_class_table() -> None:
    evaluation = evaluated(*random_case(0))
    lines = evaluation.summary().splitlines()
    assert evaluation.missing_reason() is None
    assert [line.split()[0] for line in lines] == list(METRICS)
    assert lines[0].split()[1] == f"{evaluation.metrics['AP']:.3f}"

    header, *rows = evaluation.class_table().splitlines()
    assert header.split() == ["category", "objects", "AP", "AP50", "AR100"]
    assert {len(row) for row in rows} == {len(header)}
    cup = evaluation.per_class[0]
    assert rows[0].split() == ["cup", str(cup.objects), f"{cup.AP:.3f}", f"{cup.AP50:.3f}", f"{cup.AR100:.3f}"]
    assert rows[-1].split() == ["never", "seen", "0", "-", "-", "-"]
    assert "-1" not in evaluation.summary() + evaluation.class_table()
