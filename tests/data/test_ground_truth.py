"""Ground-truth objects by the name of the image file."""

import json
from pathlib import Path

import pytest

from detr_lite.data.ground_truth import GroundTruthByFile
from detr_lite.structures import DetrLiteError


def write(path, images, annotations=()):
    content = {
        "images": [{"id": index, "file_name": name, "width": 90, "height": 60} for index, name in enumerate(images)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": crowd}
            for number, (image, category, bbox, crowd) in enumerate(annotations, 1)
        ],
        "categories": [{"id": 7, "name": "cup"}, {"id": 3, "name": "jug"}],
    }
    path.write_text(json.dumps(content))
    return path


def test_objects_of_an_image(tmp_path):
    boxes = [(0, 7, [1, 2, 30, 40], 0), (1, 3, [5, 5, 9, 9], 0), (0, 3, [0, 0, 8, 8], 1), (0, 3, [4, 4, 0, 5], 0)]
    truth = GroundTruthByFile(write(tmp_path / "a.json", ["a.jpg", "b.jpg", "c.jpg"], boxes))
    found = truth.of(Path("anywhere/a.jpg"))
    assert found.boxes_xyxy.tolist() == [[1, 2, 31, 42]], "without the crowd and the box without area"
    assert [found.class_names[label] for label in found.labels] == ["cup"]
    assert found.scores.tolist() == [1]
    crowds = truth.crowds_of(Path("anywhere/a.jpg"))
    assert crowds.boxes_xyxy.tolist() == [[0, 0, 8, 8]]
    assert [crowds.class_names[label] for label in crowds.labels] == ["jug"]
    assert truth.crowds_of(Path("d.jpg")) is None
    assert len(truth.of(Path("c.jpg"))) == 0, "listed, but without objects"
    assert truth.of(Path("d.jpg")) is None


def test_images_of_the_same_name_are_distinguished_by_their_folders(tmp_path):
    boxes = [(0, 7, [1, 1, 2, 2], 0), (1, 7, [5, 5, 2, 2], 0)]
    truth = GroundTruthByFile(write(tmp_path / "a.json", ["north/a.jpg", "south/a.jpg"], boxes))
    assert truth.of(Path("data/south/a.jpg")).boxes_xyxy.tolist() == [[5, 5, 7, 7]]
    assert truth.of(Path("data/north/a.jpg")).boxes_xyxy.tolist() == [[1, 1, 3, 3]]
    assert truth.of(Path("data/east/a.jpg")) is None


def test_ids_and_boxes_are_read_as_tolerantly_as_for_training(tmp_path):
    file = write(
        tmp_path / "a.json", ["north\\a.jpg"], [(0, 7, ["1", 2, 30, 40], 0), (0, 3, [], 0), (9, 3, [1, 1, 2, 2], 0)]
    )
    content = json.loads(file.read_text())
    content["annotations"][1]["segmentation"] = [[5, 5, 9, 5, 9, 8]]
    file.write_text(json.dumps(content))
    truth = GroundTruthByFile(file)
    assert truth.of(Path("data/north/a.jpg")).boxes_xyxy.tolist() == [[1, 2, 31, 42], [5, 5, 9, 8]]


def test_files_that_are_not_coco_are_refused(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DetrLiteError, match=r'a\.json: JSON, but not COCO: .* \(no "images"\)'):
        GroundTruthByFile(tmp_path / "a.json")
    with pytest.raises(DetrLiteError, match=r"none\.json: cannot be read"):
        GroundTruthByFile(tmp_path / "none.json")
    with pytest.raises(
        DetrLiteError, match=r'b\.json: annotations have category_id 4, which "categories" does not list'
    ):
        GroundTruthByFile(write(tmp_path / "b.json", ["a.jpg"], [(0, 4, [1, 2, 30, 40], 0)]))
