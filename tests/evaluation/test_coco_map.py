import contextlib
import copy
import csv
import io
import json
import re
from dataclasses import replace

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
    """pycocotools as in its documentation, from files. Returns the metrics and what it printed."""
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "detections.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        coco = COCO(str(folder / "truth.json"))
        reference = COCOeval(coco, coco.loadRes(str(folder / "detections.json")), "bbox")
        if image_ids is not None:
            reference.params.imgIds = image_ids
        if category_ids is not None:
            reference.params.catIds = category_ids
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    return reference.stats.tolist(), printed.getvalue()


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_pycocotools_exactly(seed, tmp_path):
    truth, results = random_case(seed)
    expected, _ = run_pycocotools(tmp_path, truth, results)
    evaluation = evaluated(truth, results)
    assert list(evaluation.metrics.values()) == expected
    assert 0 < evaluation.metrics["AP"] < 1
    assert all(type(value) is float for value in evaluation.metrics.values())


def test_metric_names_are_in_the_order_that_pycocotools_prints(tmp_path):
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


def test_per_class_metrics_equal_pycocotools_on_each_class_alone(tmp_path):
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


def test_classes_are_in_the_given_order():
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


def test_evaluation_can_be_restricted_to_some_images(tmp_path):
    truth, results = random_case(3)
    some = [image["id"] for image in truth["images"][::3]]
    evaluation = evaluate_detections(truth, results, CATEGORIES, some)
    expected, _ = run_pycocotools(tmp_path, truth, results, image_ids=some)
    assert list(evaluation.metrics.values()) == expected
    inside = [a for a in truth["annotations"] if a["image_id"] in some and not a["iscrowd"]]
    assert sum(result.objects for result in evaluation.per_class) == len(inside)
    assert evaluate_detections(truth, results, CATEGORIES, []).metrics["AP"] == -1


def test_evaluation_prints_nothing_and_leaves_its_inputs_unchanged(capsys):
    truth, results = random_case(0)
    before = copy.deepcopy((truth, results))
    evaluated(truth, results)
    assert (truth, results) == before
    assert capsys.readouterr() == ("", "")


def with_ids(truth, results, image_id, annotation_id, category_id=lambda id: id):
    """The same data under other ids. `image_id` and `annotation_id` map an index in the file to an id."""
    images = {image["id"]: image_id(index) for index, image in enumerate(truth["images"])}

    def renamed(entry):
        return {**entry, "image_id": images[entry["image_id"]], "category_id": category_id(entry["category_id"])}

    return {
        "images": [{**image, "id": images[image["id"]]} for image in truth["images"]],
        "categories": [{**category, "id": category_id(category["id"])} for category in truth["categories"]],
        "annotations": [
            renamed(annotation) | {"id": annotation_id(index)} for index, annotation in enumerate(truth["annotations"])
        ],
    }, [renamed(result) for result in results]


def shuffled(index):
    return index * 7919 % 10007  # 10007 is prime, so all are different


KINDS_OF_IDS = {
    "from 1": lambda index: index + 1,
    "from 0": lambda index: index,
    "negative": lambda index: -3 - index,
    "across 0": lambda index: index - 5,
    "descending": lambda index: 10_000 - index,
    "shuffled": shuffled,
    "above 2^40": lambda index: 2**40 + 1 + index,
    "above 2^53": lambda index: 9007199254740993 + index,
    "64 bits": lambda index: 2**64 - 1 - shuffled(index),
    "around 2^63": lambda index: 2**63 + 1 + (-1) ** index * index,
}


@pytest.mark.parametrize("kind", KINDS_OF_IDS)
@pytest.mark.parametrize("of", ["images", "annotations", "both"])
def test_metrics_do_not_depend_on_ids(of, kind, tmp_path):
    truth, results = random_case(5)
    results = [result | {"score": round(result["score"], 1)} for result in results]  # equal scores in several images
    from_1 = KINDS_OF_IDS["from 1"]
    expected, _ = run_pycocotools(tmp_path, *with_ids(truth, results, from_1, from_1))
    ids = KINDS_OF_IDS[kind]
    other = with_ids(truth, results, from_1 if of == "annotations" else ids, from_1 if of == "images" else ids)
    evaluation = evaluated(*other)
    assert any(annotation["iscrowd"] for annotation in truth["annotations"])
    assert 0 < expected[0] < 1
    assert list(evaluation.metrics.values()) == expected
    reference = evaluated(*with_ids(truth, results, from_1, from_1))
    assert evaluation.per_class == reference.per_class
    np.testing.assert_array_equal(evaluation.precision, reference.precision)


def test_large_and_negative_category_ids():
    truth, results = random_case(6)
    expected = evaluated(truth, results)
    from_1, moved = KINDS_OF_IDS["from 1"], lambda id: 2**63 + (id - 10) * 2**59
    other = evaluate_detections(
        *with_ids(truth, results, from_1, from_1, moved),
        [Category(moved(category.id), category.name) for category in CATEGORIES],
    )
    assert other.metrics == expected.metrics
    for result, same in zip(other.per_class, expected.per_class, strict=True):
        assert replace(result, category=same.category) == same


def test_annotations_need_no_ids():
    truth, results = random_case(5)
    bare = [{key: value for key, value in entry.items() if key != "id"} for entry in truth["annotations"]]
    assert evaluated({**truth, "annotations": bare}, results).metrics == evaluated(truth, results).metrics


def test_an_object_with_id_0_is_found():
    """pycocotools alone counts it as missed."""
    box = {"image_id": 1, "category_id": 3, "bbox": [10, 10, 50, 50]}
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 3, "name": "cup"}],
        "annotations": [box | {"id": 0, "area": 2500, "iscrowd": 0}],
    }
    assert evaluated(truth, [box | {"score": 0.9}]).metrics["AP"] == pytest.approx(1)


@pytest.mark.parametrize("objects", [0, 1, 7])
def test_perfect_detections_have_an_ap_of_1(objects):
    truth, _ = random_case(4)
    truth["annotations"] = [a | {"iscrowd": 0} for a in truth["annotations"][:objects]]
    evaluation = evaluated(truth, perfect_results(truth))
    assert evaluation.metrics["AP"] == pytest.approx(1 if objects else -1)
    assert sum(result.objects for result in evaluation.per_class) == objects


def test_ap_is_0_without_detections():
    truth, _ = random_case(0)
    evaluation = evaluated(truth, [])
    assert evaluation.metrics["AP"] == evaluation.metrics["AR100"] == 0
    assert [result.AP for result in evaluation.per_class] == [0, 0, 0, -1]


def test_all_metrics_are_missing_without_objects():
    truth, results = random_case(0)
    for annotations in ({"annotations": []}, {}):
        nothing = {"images": truth["images"], "categories": truth["categories"], **annotations}
        evaluation = evaluated(nothing, results)
        assert set(evaluation.metrics.values()) == {-1.0}
        assert "has no objects" in evaluation.missing_reason()
        *lines, reason = evaluation.summary().splitlines()
        assert [line.split()[:2] for line in lines] == [[name, "-"] for name in METRICS]
        assert reason.split()[0] == "-"
        assert reason.endswith(evaluation.missing_reason())
        assert explain_zero(evaluation, results, nothing | {"annotations": []}) is None, "missing is not 0"


def test_a_size_without_objects_is_named():
    truth, results = random_case(0)
    truth["annotations"] = [annotation for annotation in truth["annotations"] if annotation["area"] < 90**2]
    evaluation = evaluated(truth, results)
    assert evaluation.metrics["APl"] == evaluation.metrics["ARl"] == -1 < evaluation.metrics["APm"]
    assert evaluation.missing_reason() == "no value: the ground truth has no large objects"
    assert evaluation.summary().splitlines()[-1].endswith(evaluation.missing_reason())


def test_missing_area_and_iscrowd_are_filled_in(tmp_path):
    truth, results = random_case(0)
    truth["annotations"] = [a | {"iscrowd": 0, "area": a["bbox"][2] * a["bbox"][3]} for a in truth["annotations"]]
    expected, _ = run_pycocotools(tmp_path, truth, results)
    bare = copy.deepcopy(truth)
    for annotation in bare["annotations"]:
        del annotation["iscrowd"], annotation["area"]
    assert list(evaluated(bare, results).metrics.values()) == expected


def test_detections_of_unlisted_images_are_refused():
    truth, results = random_case(0)
    with pytest.raises(
        DetrLiteError,
        match=r'image_id 5, which the annotations do not list under "images" \(100, 107, .* and 20 more\)',
    ) as error:
        evaluated(truth, [*results, results[0] | {"image_id": 5}])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spoilt", [{"bbox": [float("nan")] * 4}, {"score": float("nan")}])
def test_detections_that_are_not_finite_are_refused(spoilt):
    truth, _ = random_case(0)
    results = [result | spoilt for result in perfect_results(truth)]
    with pytest.raises(
        DetrLiteError,
        match=r"image_id 100 has a detection that is not finite .*nan.*diverged; train with a lower learning rate",
    ):
        evaluated(truth, results)


def test_results_have_the_datasets_ids_and_are_valid_json():
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


def test_summary_and_class_table():
    truth, results = random_case(0)
    evaluation = evaluated(truth, results)
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
        (with_label_for_id, "category_id 0, 1, 2, the ground truth has 3, 7, 18"),
        (with_relative_box, "between 0 and 1"),
        (with_box_outside, "100% of the boxes extend beyond their image"),
        (with_flat_box, "no detected box has an area"),
        (of_another_image, "image_id 1, the ground truth has 100, 107, 142"),
    ],
)
def test_the_cause_of_an_ap_of_0(spoil, cause):
    truth, _ = random_case(0)
    truth["annotations"] = [a for a in truth["annotations"] if not a["iscrowd"]]
    truth["images"].append({"id": 1, "file_name": "without objects.jpg", "width": 300, "height": 200})
    results = [spoil(result) for result in perfect_results(truth)]
    evaluation = evaluated(truth, results)
    reason = explain_zero(evaluation, results, truth)
    assert evaluation.metrics["AP"] == 0
    assert cause in reason
    assert "\n" not in reason


def test_an_ap_of_0_without_detections_or_without_a_known_cause():
    truth, results = random_case(0)
    assert "not a single detection" in explain_zero(evaluated(truth, []), [], truth)
    assert explain_zero(evaluated(truth, results), results, truth) is None
    tiny = [result | {"bbox": [1.0, 1.0, 3.0, 3.0]} for result in results]  # an untrained model: simply wrong
    assert evaluated(truth, tiny).metrics["AP"] == 0
    assert explain_zero(evaluated(truth, tiny), tiny, truth) is None
