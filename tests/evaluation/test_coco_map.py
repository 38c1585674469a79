import contextlib
import copy
import csv
import io
import json
import re

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detr_lite.evaluation.coco_map import (
    METRICS,
    coco_results,
    evaluate_detections,
    explain_zero,
    write_per_class_csv,
)
from detr_lite.structures import Category, Detections, DetrLiteError

CATEGORIES = (Category(3, "cup"), Category(18, "plate"), Category(7, "fork"), Category(90, "never seen"))


def random_case(seed, images=25):
    """Ground truth with crowds and empty images; detections that hit, miss, repeat and take the wrong class."""
    rng = np.random.default_rng(seed)
    truth = {
        "images": [{"id": 100 + 7 * i, "file_name": f"{i}.jpg", "width": 300, "height": 200} for i in range(images)],
        "categories": [{"id": category.id, "name": category.name} for category in CATEGORIES],
        "annotations": [],
    }
    results = []
    for image in truth["images"]:
        objects = rng.choice([0, 1, 7])
        boxes_xywh = np.stack([*rng.uniform(0, 150, (2, objects)), *np.exp(rng.uniform(2, 5, (2, objects)))], axis=1)
        labels = rng.integers(0, 3, objects)
        for box_xywh, label in zip(boxes_xywh.tolist(), labels, strict=True):
            number = len(truth["annotations"]) + 1
            truth["annotations"].append(
                {"id": number, "image_id": image["id"], "category_id": CATEGORIES[label].id, "bbox": box_xywh}
                | {"area": 0.8 * box_xywh[2] * box_xywh[3], "iscrowd": int(rng.random() < 0.15)}
            )
        repeated = rng.integers(0, objects, rng.integers(0, 12)) if objects else np.zeros(0, int)
        wrong = rng.random(len(repeated)) < 0.2
        boxes_xyxy = boxes_xywh[repeated] + rng.normal(0, 4, (len(repeated), 4))
        boxes_xyxy[:, 2:] = boxes_xyxy[:, :2] + np.abs(boxes_xyxy[:, 2:])
        found = Detections(
            torch.tensor(boxes_xyxy, dtype=torch.float32),
            torch.tensor(rng.random(len(repeated)), dtype=torch.float32),
            torch.tensor(np.where(wrong, 2 - labels[repeated], labels[repeated])),
            torch.arange(len(repeated)),
        )
        results += coco_results(found, image["id"], [category.id for category in CATEGORIES])
    return truth, results


def perfect_results(truth):
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in truth["annotations"]
    ]


def evaluated(truth, results):
    return evaluate_detections(truth, results, CATEGORIES)


def run_pycocotools(folder, truth, results, image_ids=None, category_ids=None):
    """pycocotools as its manual has it, from files. Returns the numbers and what it printed."""
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "detections.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        coco = COCO(str(folder / "truth.json"))
        oracle = COCOeval(coco, coco.loadRes(str(folder / "detections.json")), "bbox")
        if image_ids is not None:
            oracle.params.imgIds = image_ids
        if category_ids is not None:
            oracle.params.catIds = category_ids
        oracle.evaluate()
        oracle.accumulate()
        oracle.summarize()
    return oracle.stats.tolist(), printed.getvalue()


@pytest.mark.parametrize("seed", range(3))
def test_the_numbers_are_pycocotools_to_the_last_digit(seed, tmp_path):
    truth, results = random_case(seed)
    expected, _ = run_pycocotools(tmp_path, truth, results)
    evaluation = evaluated(truth, results)
    assert list(evaluation.metrics.values()) == expected
    assert 0 < evaluation.metrics["AP"] < 1
    assert all(type(value) is float for value in evaluation.metrics.values())


def test_names_stand_in_the_order_that_pycocotools_prints(tmp_path):
    _, printed = run_pycocotools(tmp_path, *random_case(0))
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


def test_each_class_is_pycocotools_on_that_class_alone(tmp_path):
    truth, results = random_case(1)
    evaluation = evaluated(truth, results)
    for result in evaluation.per_class:
        expected, _ = run_pycocotools(tmp_path, truth, results, category_ids=[result.category.id])
        assert pytest.approx((expected[0], expected[1], expected[8]), abs=1e-12) == (
            result.AP,
            result.AP50,
            result.AR100,
        )
        assert result.objects == sum(
            a["category_id"] == result.category.id and not a["iscrowd"] for a in truth["annotations"]
        )
    assert evaluation.per_class[-1].objects == 0
    assert evaluation.per_class[-1].AP == -1


def test_classes_come_in_the_order_asked_for():
    truth, results = random_case(2)
    evaluation = evaluated(truth, results)
    unknown = Category(1000, "not in the ground truth")
    reversed_ = evaluate_detections(truth, results, [unknown, *reversed(CATEGORIES)])
    assert reversed_.per_class[1:] == evaluation.per_class[::-1]
    assert reversed_.metrics == evaluation.metrics
    assert reversed_.precision.shape == (10, 101, 5)
    np.testing.assert_array_equal(reversed_.precision[..., 1:], evaluation.precision[..., ::-1])
    assert (reversed_.precision[..., 0] == -1).all()
    assert reversed_.per_class[0].AP == reversed_.per_class[0].AR100 == -1
    assert evaluation.recall_thresholds == pytest.approx(np.linspace(0, 1, 101))


def test_only_the_images_asked_for(tmp_path):
    truth, results = random_case(3)
    some = [image["id"] for image in truth["images"][::3]]
    evaluation = evaluate_detections(truth, results, CATEGORIES, some)
    expected, _ = run_pycocotools(tmp_path, truth, results, image_ids=some)
    assert list(evaluation.metrics.values()) == expected
    inside = [a for a in truth["annotations"] if a["image_id"] in some and not a["iscrowd"]]
    assert sum(result.objects for result in evaluation.per_class) == len(inside)
    assert evaluate_detections(truth, results, CATEGORIES, []).metrics["AP"] == -1


def test_silent_and_without_a_trace(capsys):
    truth, results = random_case(0)
    before = copy.deepcopy((truth, results))
    evaluated(truth, results)
    assert (truth, results) == before
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("objects", [0, 1, 7])
def test_perfect_detections_of_few_objects(objects):
    truth, _ = random_case(4)
    truth["annotations"] = [a | {"iscrowd": 0} for a in truth["annotations"][:objects]]
    evaluation = evaluated(truth, perfect_results(truth))
    assert evaluation.metrics["AP"] == pytest.approx(1 if objects else -1)
    assert sum(result.objects for result in evaluation.per_class) == objects


def test_no_detections_is_zero():
    truth, _ = random_case(0)
    evaluation = evaluated(truth, [])
    assert evaluation.metrics["AP"] == evaluation.metrics["AR100"] == 0
    assert [result.AP for result in evaluation.per_class] == [0, 0, 0, -1]


def test_detections_without_objects_are_not_counted():
    truth, results = random_case(0)
    for annotations in ({"annotations": []}, {}):
        nothing = {"images": truth["images"], "categories": truth["categories"], **annotations}
        assert set(evaluated(nothing, results).metrics.values()) == {-1.0}


def test_fields_that_some_tools_leave_out(tmp_path):
    truth, results = random_case(0)
    truth["annotations"] = [a | {"iscrowd": 0, "area": a["bbox"][2] * a["bbox"][3]} for a in truth["annotations"]]
    expected, _ = run_pycocotools(tmp_path, truth, results)
    bare = copy.deepcopy(truth)
    for annotation in bare["annotations"]:
        del annotation["iscrowd"], annotation["area"]
    assert list(evaluated(bare, results).metrics.values()) == expected


def test_unknown_image_ids_are_an_error_of_one_line():
    truth, results = random_case(0)
    with pytest.raises(
        DetrLiteError, match=r'image_id 5, which the annotations\' "images" \(100, 107, .*\) do not list'
    ) as error:
        evaluated(truth, [*results, results[0] | {"image_id": 5}])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spoilt", [{"bbox": [float("nan")] * 4}, {"score": float("nan")}])
def test_a_diverged_model_is_not_a_perfect_one(spoilt):
    truth, _ = random_case(0)
    results = [result | spoilt for result in perfect_results(truth)]
    with pytest.raises(
        DetrLiteError, match=r"image_id 100 has a detection that is not finite .*nan.*lower learning rate"
    ):
        evaluated(truth, results)


def test_results_carry_the_data_sets_ids_and_survive_json():
    found = Detections(
        torch.tensor([[10.0, 20.0, 40.123456, 80.0], [0.0, 0.0, 1.0, 2.0]]),
        torch.tensor([0.9, 1 / 3]),
        torch.tensor([2, 0]),
        torch.tensor([4, 1]),
    )
    results = coco_results(found, image_id=42, category_ids=[3, 18, 7])
    assert results == [
        {"image_id": 42, "category_id": 7, "bbox": [10.0, 20.0, 30.123, 60.0], "score": 0.9},
        {"image_id": 42, "category_id": 3, "bbox": [0.0, 0.0, 1.0, 2.0], "score": 0.333333},
    ]
    assert json.loads(json.dumps(results)) == results


def test_no_detections_give_no_results():
    nothing = torch.zeros(0)
    found = Detections(torch.zeros(0, 4), nothing, nothing.long(), nothing.long())
    assert coco_results(found, image_id=1, category_ids=[3]) == []


def test_texts_for_the_terminal():
    truth, results = random_case(0)
    evaluation = evaluated(truth, results)
    lines = evaluation.summary().splitlines()
    assert [line.split()[0] for line in lines] == list(METRICS)
    assert lines[0].split()[1] == f"{evaluation.metrics['AP']:.3f}"

    header, *rows = evaluation.class_table().splitlines()
    assert header.split() == ["category", "objects", "AP", "AP50", "AR100"]
    assert {len(row) for row in rows} == {len(header)}
    cup = evaluation.per_class[0]
    assert rows[0].split() == ["cup", str(cup.objects), f"{cup.AP:.3f}", f"{cup.AP50:.3f}", f"{cup.AR100:.3f}"]
    assert rows[-1].split() == ["never", "seen", "0", "-", "-", "-"]
    assert "-1" not in evaluation.summary() + evaluation.class_table()


def test_per_class_csv(tmp_path):
    evaluation = evaluated(*random_case(0))
    write_per_class_csv(tmp_path / "per_class.csv", evaluation)
    with (tmp_path / "per_class.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(CATEGORIES)
    for row, result in zip(rows, evaluation.per_class, strict=True):
        assert (int(row["category_id"]), row["category"]) == (result.category.id, result.category.name)
        assert int(row["objects"]) == result.objects
        assert (float(row["AP"]), float(row["AP50"]), float(row["AR100"])) == (result.AP, result.AP50, result.AR100)


def with_label_for_id(result):
    return result | {"category_id": [category.id for category in CATEGORIES].index(result["category_id"])}


def with_relative_box(result):
    x, y, width, height = result["bbox"]
    return result | {"bbox": [x / 300, y / 200, width / 300, height / 200]}


def with_box_outside(result):
    return result | {"bbox": [result["bbox"][0] + 1000, *result["bbox"][1:]]}


def with_flat_box(result):
    return result | {"bbox": [*result["bbox"][:2], 0.0, 0.0]}


def of_another_image(result):
    return result | {"image_id": 1}


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (with_label_for_id, "category_id 0, 1, 2, the true objects 3, 7, 18"),
        (with_relative_box, "between 0 and 1"),
        (with_box_outside, "100% of the boxes reach out of their image"),
        (with_flat_box, "no detected box has an area"),
        (of_another_image, "image_id 1, the true objects 100, 107, 142"),
    ],
)
def test_why_is_it_zero(spoil, cause):
    truth, _ = random_case(0)
    truth["annotations"] = [a for a in truth["annotations"] if not a["iscrowd"]]
    truth["images"].append({"id": 1, "file_name": "without objects.jpg", "width": 300, "height": 200})
    results = [spoil(result) for result in perfect_results(truth)]
    evaluation = evaluated(truth, results)
    reason = explain_zero(evaluation, results, truth)
    assert evaluation.metrics["AP"] == 0
    assert cause in reason
    assert "\n" not in reason


def test_why_is_it_zero_without_detections_and_where_nothing_is_wrong():
    truth, results = random_case(0)
    assert "not a single detection" in explain_zero(evaluated(truth, []), [], truth)
    assert explain_zero(evaluated(truth, results), results, truth) is None
    tiny = [result | {"bbox": [1.0, 1.0, 3.0, 3.0]} for result in results]  # an untrained model: simply wrong
    assert evaluated(truth, tiny).metrics["AP"] == 0
    assert explain_zero(evaluated(truth, tiny), tiny, truth) is None
