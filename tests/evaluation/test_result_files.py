import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from detr_lite.evaluation import result_files
from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.evaluation.packing import pack_detections
from detr_lite.evaluation.result_files import write_detections, write_per_class_csv
from detr_lite.structures import Category, Detections
from tests.helpers.random_detections import as_coco, random_case

CATEGORIES = (Category(3, "cup"), Category(18, "plate"), Category(7, "fork"), Category(90, "never seen"))


def detections_of(boxes_xyxy: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(
        torch.tensor(boxes_xyxy).reshape(-1, 4),
        torch.tensor(scores),
        torch.tensor(labels, dtype=torch.long),
        torch.arange(len(labels)),
    )


FOUND = {
    7: detections_of([[1.0, 2.0, 3.0, 4.0]], [0.25], [1]),
    2: detections_of([[10.0, 20.0, 40.123456, 80.0], [0.0, 0.0, 1.0, 2.0]], [0.9, 1 / 3], [2, 0]),
    5: detections_of([], [], []),
}


@pytest.mark.parametrize("found", [{}, {5: FOUND[5]}])
def test_no_detections_give_an_empty_list(found: dict[int, Detections], tmp_path: Path) -> None:
    packed = pack_detections(found)
    assert (packed.boxes_xywh.shape, packed.labels.dtype, packed.scores.dtype) == ((0, 4), np.int64, np.float64)
    write_detections(tmp_path / "detections.json", packed, range(9), CATEGORIES)
    assert json.loads((tmp_path / "detections.json").read_text()) == []


def test_files_have_the_data_sets_own_ids(tmp_path: Path) -> None:
    ids = ["a", "b", 'a "quoted" name\n', "d", "e", "f", "g", 2**63 + 1]
    write_detections(tmp_path / "detections.json", pack_detections(FOUND), ids, CATEGORIES)
    assert json.loads((tmp_path / "detections.json").read_text()) == [
        {"image_id": ids[2], "category_id": 7, "bbox": [10.0, 20.0, 30.123, 60.0], "score": 0.9},
        {"image_id": ids[2], "category_id": 3, "bbox": [0.0, 0.0, 1.0, 2.0], "score": 0.333333},
        {"image_id": ids[7], "category_id": 18, "bbox": [1.0, 2.0, 2.0, 2.0], "score": 0.25},
    ]


@pytest.mark.parametrize("chunk", [1, 7, 10**6])
def test_files_written_in_pieces_hold_exactly_what_is_evaluated(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_files, "_CHUNK", chunk)
    truth, found = random_case(0)
    write_detections(tmp_path / "detections.json", found, range(1, 26), CATEGORIES)
    assert json.loads((tmp_path / "detections.json").read_text()) == as_coco(truth, found, CATEGORIES)[1]


def test_per_class_csv(tmp_path: Path) -> None:
    evaluation = evaluate_detections(*random_case(0), CATEGORIES)
    write_per_class_csv(tmp_path / "per_class.csv", evaluation)
    with (tmp_path / "per_class.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(CATEGORIES)
    for row, result in zip(rows, evaluation.per_class, strict=True):
        assert (int(row["category_id"]), row["category"]) == (result.category.id, result.category.name)
        assert int(row["objects"]) == result.objects
        assert (float(row["AP"]), float(row["AP50"]), float(row["AR100"])) == (result.AP, result.AP50, result.AR100)
