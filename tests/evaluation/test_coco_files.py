"""Files of other programs: AP depends on nothing but images, boxes, classes and scores."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_lite.evaluation.coco_files import CocoArrays, from_coco
from detr_lite.evaluation.coco_map import CocoEvaluation, evaluate_detections
from detr_lite.structures import Category, DetrLiteError
from tests.helpers.random_detections import as_coco, random_case, run_pycocotools

CATEGORIES = (Category(3, "cup"), Category(18, "plate"), Category(57, "fork"), Category(90, "never seen"))


def with_ties(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Equal scores in several images, whose order is that of the images."""
    truth, detections = random_case(seed)
    return as_coco(truth, replace(detections, scores=detections.scores.round(1)), CATEGORIES)


def evaluated(content: dict[str, Any], results: list[dict[str, Any]]) -> CocoEvaluation:
    arrays = from_coco(content, results)
    return evaluate_detections(arrays.ground_truth, arrays.detections, arrays.categories)


def test_metrics_equal_pycocotools_on_the_same_files(tmp_path: Path) -> None:
    files = with_ties(5)
    expected, _ = run_pycocotools(tmp_path, *files)
    assert list(evaluated(*files).metrics.values()) == expected
    assert 0 < expected[0] < 1


def shuffled(index: int) -> int:
    return index * 7919 % 10007  # 10007 is prime, so all are different


KINDS_OF_IDS: dict[str, Callable[[int], Any]] = {
    "from 0": lambda index: index,
    "negative": lambda index: -3 - index,
    "descending": lambda index: 10_000 - index,
    "shuffled": shuffled,
    "above 2^53": lambda index: 9007199254740993 + index,
    "64 bits": lambda index: 2**64 - 1 - shuffled(index),
    "text": lambda index: f"img/{shuffled(index)}.jpg",
    "quoted numbers": lambda index: str(index),
    "fractions": lambda index: float(index),
    "all the same": lambda index: 1,
    "missing": lambda index: None,
}


def with_ids(
    content: dict[str, Any], results: list[dict[str, Any]], kind: str, of: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same data under other ids."""
    rename = KINDS_OF_IDS[kind]
    content, results = json.loads(json.dumps([content, results]))
    if of == "annotations":
        for index, annotation in enumerate(content["annotations"]):
            annotation["id"] = rename(index)
            if annotation["id"] is None:
                del annotation["id"]
        return content, results
    section, key = ("images", "image_id") if of == "images" else ("categories", "category_id")
    new = {entry["id"]: rename(index) for index, entry in enumerate(content[section])}
    for entry in content[section]:
        entry["id"] = new[entry["id"]]
    for entry in [*content["annotations"], *results]:
        entry[key] = new[entry[key]]
    return content, results


@pytest.mark.parametrize(
    ("of", "kind"),
    [
        (of, kind)
        for of in ("annotations", "images", "categories")
        for kind in KINDS_OF_IDS
        if of == "annotations" or kind not in ("all the same", "missing")
    ],
)
def test_metrics_do_not_depend_on_ids(of: str, kind: str) -> None:
    content, results = with_ties(5)
    expected = evaluated(content, results)
    evaluation = evaluated(*with_ids(content, results, kind, of))
    assert any(annotation["iscrowd"] for annotation in content["annotations"])
    assert evaluation.metrics == expected.metrics
    assert 0 < expected.metrics["AP"] < 1
    np.testing.assert_array_equal(evaluation.precision, expected.precision)
    for result, same in zip(evaluation.per_class, expected.per_class, strict=True):
        assert replace(result, category=same.category) == same


def test_results_may_have_ids_in_quotes_where_the_annotations_have_numbers() -> None:
    content, results = with_ties(5)
    quoted = [
        result | {"image_id": str(result["image_id"]), "category_id": float(result["category_id"])}
        for result in results
    ]
    assert evaluated(content, quoted).metrics == evaluated(content, results).metrics


def test_an_object_with_id_0_is_found() -> None:
    """pycocotools alone counts it as missed."""
    box = {"image_id": 1, "category_id": 3, "bbox": [10, 10, 50, 50]}
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 3, "name": "cup"}],
        "annotations": [box | {"id": 0, "area": 2500, "iscrowd": 0}],
    }
    assert evaluated(truth, [box | {"score": 0.9}]).metrics["AP"] == pytest.approx(1)


@pytest.mark.parametrize("area", ["missing", None, 0, -3.5, float("nan"), "12.5"])
def test_the_area_is_the_boxs_where_it_is_not_positive(area: Any) -> None:
    content, results = with_ties(0)
    first = content["annotations"][0]
    if area == "missing":
        del first["area"]
    else:
        first["area"] = area
    expected = 12.5 if area == "12.5" else first["bbox"][2] * first["bbox"][3]
    assert from_coco(content, results).ground_truth.areas[0] == expected


def test_iscrowd_and_annotations_may_be_missing() -> None:
    content, results = with_ties(0)
    for annotation in content["annotations"]:
        del annotation["iscrowd"]
    assert not from_coco(content, results).ground_truth.is_crowd.any()
    del content["annotations"]
    assert evaluated(content, results).metrics["AP"] == -1


def test_what_the_arrays_hold() -> None:
    content, results = with_ties(0)
    arrays: CocoArrays = from_coco(content, results)
    assert arrays.categories == CATEGORIES
    assert arrays.image_ids == tuple(range(1, 26))
    assert arrays.sizes_wh.tolist() == [[300, 200]] * 25
    assert arrays.detections.boxes_xywh.tolist() == [result["bbox"] for result in results]
    assert np.isnan(from_coco({**content, "images": [{"id": n} for n in range(1, 26)]}, results).sizes_wh).all()


def test_entries_of_unlisted_images_and_categories_are_left_out_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    content, results = with_ties(0)
    expected = evaluated(content, results)
    content["annotations"] += [
        content["annotations"][0] | {"image_id": 999},
        content["annotations"][1] | {"category_id": 999},
    ]
    assert capsys.readouterr().out == ""
    assert evaluated(content, [*results, results[0] | {"category_id": "unlisted"}]).metrics == expected.metrics
    out = capsys.readouterr().out
    assert f"warning: 2 of {len(content['annotations'])} annotations are of images or categories that" in out
    assert f"warning: 1 of {len(results) + 1} detections are of images or categories" in out


def test_detections_of_unlisted_images_are_refused() -> None:
    content, results = with_ties(0)
    with pytest.raises(
        DetrLiteError,
        match=r'image_id 55, which the annotations do not list under "images" \(1, 2, .* and 20 more\)',
    ) as error:
        from_coco(content, [*results, results[0] | {"image_id": 55}])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [1, 2, 3]}, "a detection has no bbox of four numbers"),
        ({"bbox": None}, "a detection has no bbox of four numbers"),
        ({"bbox": [1, 2, "x", 3]}, "a detection has no bbox of four numbers"),
        ({"bbox": [1, 2, 3, float("nan")]}, "a detection has a bbox that is not finite"),
        ({"bbox": [1, 2, 3, 10**400]}, "a detection has no bbox of four numbers"),
        ({"score": None}, "a detection has no finite score"),
        ({"score": float("inf")}, "a detection has no finite score"),
        ({"score": "high"}, "a detection has no finite score"),
        ({"score": [1, 2]}, "a detection has no finite score"),
        ({"image_id": [3]}, "which the annotations do not list"),
    ],
)
def test_results_that_are_none_are_refused(change: dict[str, Any], message: str) -> None:
    content, results = with_ties(0)
    results[4] = results[4] | change
    with pytest.raises(DetrLiteError, match=message) as error:
        from_coco(content, results)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [{}, {"images": {}, "categories": []}, {"images": [1], "categories": []}, {"images": [{}], "categories": []}],
)
def test_files_that_are_not_cocos_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(DetrLiteError, match="the annotations"):
        from_coco(content, [])


def test_results_without_ids_or_that_are_no_objects_are_refused() -> None:
    content, results = with_ties(0)
    for entry in ({"bbox": [0, 0, 1, 1], "score": 1}, 3):
        with pytest.raises(DetrLiteError, match="a detection has no image_id or category_id"):
            from_coco(content, [*results, entry])
