"""Detections in COCO's results format, of any program, held to pycocotools' `loadRes`; what is not one says so."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from detr_lite.data.results_file import read_results
from detr_lite.structures import Category, DetrLiteError

CATEGORIES = (Category(3, "cell"), Category(7, "plate"))
IDS = [30, 10, 20]


def entry(image: Any = 10, category: Any = 7, box: Any = (1.0, 2.0, 30.0, 40.5), score: Any = 0.5) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_equals_pycocotools(tmp_path: Path) -> None:
    entries = [entry(20, 3, score=0.25), entry(30, 7, (0, 0, 5, 5), 1), entry(20, 7, score=0.75), entry(10, 3)]
    found, notes = read_results(write(tmp_path / "results.json", entries), IDS, CATEGORIES, "truth")
    truth = COCO()
    truth.dataset = {"images": [{"id": each} for each in IDS], "categories": [{"id": each.id} for each in CATEGORIES]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        reference = truth.loadRes(str(tmp_path / "results.json"))
    expected = sorted(
        (IDS.index(each["image_id"]), each["category_id"], each["score"], each["bbox"])
        for each in reference.dataset["annotations"]
    )
    columns = (found.image_index, found.labels, found.scores, found.boxes_xywh)
    got = [
        (image, CATEGORIES[label].id, score, box)
        for image, label, score, box in zip(*(column.tolist() for column in columns), strict=True)
    ]
    assert sorted(got) == expected
    assert (np.diff(found.image_index) >= 0).all()
    assert not notes


def test_no_detections(tmp_path: Path) -> None:
    found, notes = read_results(write(tmp_path / "results.json", []), IDS, CATEGORIES, "truth")
    assert len(found.scores) == 0
    assert found.boxes_xywh.shape == (0, 4)
    assert not notes


def test_ids_that_another_program_wrote_as_text_or_with_a_point(tmp_path: Path) -> None:
    found, _ = read_results(write(tmp_path / "results.json", [entry("20")]), IDS, CATEGORIES, "truth")
    assert found.image_index.tolist() == [2]
    for numbers in (("20", "3"), (20.0, 3.0)):
        found, notes = read_results(write(tmp_path / "results.json", [entry(*numbers)]), IDS, CATEGORIES, "truth")
        assert (found.image_index.tolist(), found.labels.tolist(), notes) == ([2], [0], ())
    found, _ = read_results(write(tmp_path / "results.json", [entry("a.jpg")]), ["b.jpg", "a.jpg"], CATEGORIES, "truth")
    assert found.image_index.tolist() == [1]


def test_categories_that_the_dataset_lacks_are_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "results.json", [entry(), entry(category=1), entry(category=2)])
    found, notes = read_results(file, IDS, CATEGORIES, "truth")
    assert len(found.scores) == 1
    assert "2 of 3 detections" in notes[0]
    assert "category_id 1, 2" in notes[0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"images": [], "annotations": []}, "image numbers of its own"),
        ({"model": "x"}, "expected COCO's results format"),
        ([3], "entry 0 is 3"),
        ([entry(), {"image_id": 10, "bbox": [0, 0, 1, 1]}], "entry 1 has no category_id and no score"),
        ([entry(box=(1, 2, 3))], r"bbox is \[1, 2, 3\]"),
        ([entry(box=(1, 2, 3, float("nan")))], "bbox is"),
        ([entry(score="high")], "score is 'high'"),
        ([entry(score=True)], "score is True"),
        ([entry(score=90)], "score is 90; scores lie from 0 to 1: divide percentages"),
        ([entry(score=-2.5)], "score is -2.5; scores lie from 0 to 1"),
        ([entry(score=10**400)], "score is 1000"),
        ([entry(box=(1, 2, 3, 10**400))], "bbox is"),
        ([entry(box=(1, 2, 3, 1e200))], "bbox is"),
        ([entry(image=10**400)], "truth does not have"),
        ([entry(image=10.5)], "truth does not have"),
        ([entry(image=None)], "image_id is None"),
        ([entry(image=99)], r"truth does not have \(image_id 99\); .*--truth"),
        ([entry(category=99)], "none of its category ids .99. are in truth, which has 3, 7"),
    ],
)
def test_what_is_not_a_results_file_says_why(tmp_path: Path, content: object, expected: str) -> None:
    with pytest.raises(DetrLiteError, match=expected):
        read_results(write(tmp_path / "results.json", content), IDS, CATEGORIES, "truth")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DetrLiteError, match="cannot be read"):
        read_results(tmp_path / "results.json", IDS, CATEGORIES, "truth")


def test_images_without_ids_are_found_by_their_names(tmp_path: Path) -> None:
    """As Ultralytics writes them: the name without its suffix, a number where it is one."""
    names = ["000012.jpg", "12b.png", "street 3.jpg"]
    file = write(tmp_path / "results.json", [entry(12), entry("000012"), entry("12b.png"), entry("street 3")])
    found, _ = read_results(file, [1, 2, 3], CATEGORIES, "truth", names)
    assert found.image_index.tolist() == [0, 0, 1, 2]
    with pytest.raises(DetrLiteError, match=r"image_id 1\)"):
        read_results(write(tmp_path / "results.json", [entry(1)]), [1, 2, 3], CATEGORIES, "truth", names)
    with pytest.raises(DetrLiteError, match="two images of the dataset are called 12"):
        read_results(file, [1, 2], CATEGORIES, "truth", ["12.jpg", "0012.jpg"])
