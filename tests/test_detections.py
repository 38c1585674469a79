"""What other programs do with `Detections`."""

import contextlib
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from detr_lite.data.reading import read_dataset
from detr_lite.structures import Detections, DetrLiteError

NAMES, IDS = ("cat", "dog", "bird"), (17, 4, 90)


def found(count: int = 3, **fields: Any) -> Detections:
    boxes_xyxy = torch.tensor([[10.0, 20.0, 110.0, 80.0], [0.0, 0.0, 640.0, 480.0], [5.25, 6.5, 7.75, 9.0]])
    scores, labels, queries = torch.tensor([0.9, 0.625, 0.03]), torch.tensor([1, 0, 1]), torch.tensor([7, 2, 5])
    every = Detections(boxes_xyxy, scores, labels, queries, NAMES, IDS, (480, 640))
    return replace(every[:count], **fields)


def test_the_repr_says_what_was_found_and_where() -> None:
    assert repr(found()) == "Detections(2 dog, 1 cat; scores 0.9 to 0.03; image 640 x 480)"
    assert repr(found()[0]) == "Detections(dog 0.90 at [10.0, 20.0, 110.0, 80.0]; image 640 x 480)"
    assert repr(found(0)) == "Detections(none; image 640 x 480)"
    assert repr(found(class_names=(), image_size=None)) == "Detections(2 class 1, 1 class 0; scores 0.9 to 0.03)"
    assert repr(found(class_names=("a", "\x1b[31m", "c")))[:30] == "Detections(2 \\x1b[31m, 1 a; sc"
    assert len(repr(found(class_names=("x" * 1000,) * 3))) < 150


def test_each_detection_of_a_loop_tells_its_class_score_and_tile() -> None:
    tiled = found(tiles=torch.tensor([3, -1, 0]))
    assert [(*one.names, round(one.scores.item(), 2), one.tiles.tolist()) for one in tiled] == [
        ("dog", 0.9, [3]), ("cat", 0.62, [-1]), ("dog", 0.03, [0])
    ]  # fmt: skip
    assert list(found(0)) == []
    assert tiled[1:].tiles.tolist() == [-1, 0]
    assert tiled.above(0.5).tiles.tolist() == [3, -1]


def test_coco_results_are_read_by_pycocotools_under_the_ids_of_the_dataset() -> None:
    entries = json.loads(json.dumps(found().to_coco(image_id=42)))
    assert entries[0] == {"image_id": 42, "category_id": 4, "bbox": [10.0, 20.0, 100.0, 60.0], "score": 0.9}
    assert [entry["category_id"] for entry in entries] == [4, 17, 4]
    truth = COCO()
    truth.dataset = {"images": [{"id": 42}], "categories": [{"id": id} for id in IDS], "annotations": []}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        read = truth.loadRes(entries)
    assert [each["area"] for each in read.anns.values()] == pytest.approx([6000, 640 * 480, 6.25])
    assert [entry["category_id"] for entry in found(category_ids=()).to_coco("a.jpg")] == [1, 0, 1]
    assert found(0).to_coco(1) == []


def test_label_files_of_yolo_are_read_as_the_same_boxes(tmp_path: Path) -> None:
    assert found().to_yolo().splitlines()[0] == "1 0.093750 0.104167 0.156250 0.125000 0.900000"
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (640, 480)).save(tmp_path / folder / f"{folder}.jpg")
        (tmp_path / folder / f"{folder}.txt").write_text(found().to_yolo())
    (tmp_path / "classes.txt").write_text("\n".join(NAMES) + "\n")
    split = read_dataset(tmp_path)["train"]
    assert [category.name for category in split.categories] == list(NAMES)
    assert split.images[0].labels.tolist() == found().labels.tolist()
    np.testing.assert_allclose(split.images[0].boxes_xyxy, found().boxes_xyxy, atol=1e-3)


def test_yolo_of_nothing_is_an_empty_file_and_without_a_size_it_is_refused() -> None:
    assert found(0).to_yolo() == ""
    with pytest.raises(DetrLiteError, match="relative to the image, whose size these detections do not have"):
        found(image_size=None).to_yolo()


def test_drawing_leaves_the_image_as_it_is_and_refuses_another_one() -> None:
    image = Image.new("RGB", (640, 480), (128, 128, 128))
    before = image.tobytes()
    drawn = found().draw(image)
    assert (drawn.size, image.tobytes()) == ((640, 480), before)
    assert drawn.tobytes() != before
    assert found().draw(np.asarray(image)).tobytes() == drawn.tobytes()
    assert found(0).draw(image).tobytes() == before
    with pytest.raises(DetrLiteError, match="480 x 640 pixels, the one of these detections was 640 x 480"):
        found().draw(image.rotate(90, expand=True))
    assert found(image_size=None).draw(image.rotate(90, expand=True)).size == (480, 640)


def test_supervision_gets_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in records the arguments where the real one is not installed."""
    try:
        import supervision  # noqa: F401 (only whether it is there)
    except ImportError:
        monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
    for detections in (found(tiles=torch.tensor([3, -1, 0])), found(0)):
        given = detections.to_supervision()
        np.testing.assert_array_equal(given.xyxy, detections.boxes_xyxy.numpy())
        np.testing.assert_array_equal(given.confidence, detections.scores.numpy())
        assert given.class_id.tolist() == detections.labels.tolist()
        assert given.data["class_name"].tolist() == detections.names
        assert given.data["query"].tolist() == detections.queries.tolist()
        assert ("tile" in given.data) == (detections.tiles is not None)


def test_supervision_that_is_missing_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(DetrLiteError, match="pip install supervision"):
        found().to_supervision()
