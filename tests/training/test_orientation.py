"""Images whose EXIF orientation the annotated sizes do not settle: alike in training, evaluation and prediction."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_lite.build import build_model
from detr_lite.config import Config, config_from_dict, config_to_dict
from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.image_sources import ImageFile, read_batches
from detr_lite.data.reading import Reading, read_dataset
from detr_lite.data.transforms import ResizeRule
from detr_lite.detector import Detector
from detr_lite.structures import Category, DetrLiteError
from detr_lite.training.detection import make_data, read_data
from detr_lite.weights.checkpoint import Description
from tests.helpers.image_splits import save_image

TAG = 6
"""Turned by 90 degrees."""


def make_dataset(root: Path, sizes: dict[str, tuple[tuple[int, int], tuple[int, int]]]) -> Path:
    """Both splits hold these images with a tag: name -> (stored, annotated) width and height."""
    for split in ("train", "val"):
        images, annotations = [], []
        for number, (name, (stored, annotated)) in enumerate(sizes.items(), 1):
            save_image(root / split / name, stored, TAG)
            images.append({"id": number, "file_name": name, "width": annotated[0], "height": annotated[1]})
            box = {"id": number, "image_id": number, "category_id": 1, "bbox": [2, 3, 9 + number, 8], "area": 80}
            annotations.append({**box, "iscrowd": 0})
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


SQUARE = ((64, 64), (64, 64))
AS_STORED = ((64, 48), (64, 48))
AS_SHOWN = ((64, 48), (48, 64))


@pytest.mark.parametrize(
    ("others", "setting", "expected"),
    [
        ({}, None, "upright"),
        ({}, "stored", "stored"),
        ({"other.png": AS_STORED}, None, "stored"),
        ({"other.png": AS_SHOWN}, None, "upright"),
        ({"other.png": AS_STORED, "third.png": AS_SHOWN}, None, "upright"),
        ({"other.png": AS_STORED}, "upright", "upright"),
        ({"other.png": AS_SHOWN}, "stored", "stored"),
    ],
)
def test_training_and_prediction_see_the_same_picture(
    tmp_path: Path, tiny_config: Config, others: dict[str, Any], setting: Any, expected: str
) -> None:
    root = make_dataset(tmp_path / "data", {"square.png": SQUARE, **others})
    config = replace(tiny_config, data=replace(tiny_config.data, root=str(root), orientation=setting))
    config, train, val = read_data(config)
    assert config.data.orientation == expected, "kept in the settings, and with them in checkpoints"
    assert train.orientation.unsettled == val.orientation.unsettled == 1

    stored = np.asarray(Image.open(root / "train" / "square.png"))
    picture = stored if expected == "stored" else np.rot90(stored, k=-1)
    description = Description(
        config, (Category(1, "thing"),), ResizeRule("longest", 64), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    )
    detector = Detector(build_model(config.model, 1, for_checkpoint=True), description)
    data = make_data(config, train, val)
    for split in (train, val):
        pixels, _ = DetectionDataset(split, detector.transform)[0]
        np.testing.assert_allclose(pixels.permute(1, 2, 0).numpy() * 255, picture, atol=0.01)
    assert DetectionDataset(data.train, data.val_transform).orientation == expected
    for given in (root / "val" / "square.png", Image.open(root / "val" / "square.png")):
        np.testing.assert_allclose(
            detector._prepare(detector._open(given)).pixels.permute(1, 2, 0).numpy() * 255, picture, atol=0.01
        )
    file = ImageFile(root / "val" / "square.png", Path("square.png"))
    (((_, image),),) = read_batches([file], 1, [], "testing", detector.orientation)
    np.testing.assert_array_equal(np.asarray(image), picture)
    prepared = detector._prepare(image)  # as `predict` does, which draws on the image that it gives to the detector
    np.testing.assert_allclose(prepared.pixels.permute(1, 2, 0).numpy() * 255, picture, atol=0.01)


def test_the_splits_decide_together(tmp_path: Path) -> None:
    """Only validation has an image that settles it."""
    root = make_dataset(tmp_path / "data", {"square.png": SQUARE, "other.png": AS_STORED})
    train = root / "annotations" / "instances_train.json"
    content = json.loads(train.read_text())
    train.write_text(
        json.dumps({**content, "images": content["images"][:1], "annotations": content["annotations"][:1]})
    )
    for _ in range(2):  # read, and from the cache
        splits = read_dataset(root, ("train", "val"), Reading())
        assert [splits[name].orientation.default for name in ("train", "val")] == ["stored", "stored"]
        assert "are read as they are stored" in splits["train"].report.lines()[0]
    assert read_dataset(root, ("train",), Reading())["train"].orientation.default == "upright"


def test_checkpoints_of_before_the_setting_are_still_read(tiny_config: Config) -> None:
    settings = config_to_dict(tiny_config)
    del settings["data"]["orientation"], settings["data"]["on_fault"]
    assert config_from_dict(settings) == tiny_config
    description = Description(
        config_from_dict(settings), (Category(1, "thing"),), ResizeRule("longest", 64), (0.5,) * 3, (0.2,) * 3
    )
    assert Detector(build_model(tiny_config.model, 1, for_checkpoint=True), description).orientation == "upright"


@pytest.mark.parametrize("on_fault", ["repair", "skip"])
def test_the_setting_of_faults_reaches_the_check(tmp_path: Path, tiny_config: Config, on_fault: Any) -> None:
    """Of two images one is cut off: half of the data."""
    root = make_dataset(tmp_path / "data", {"a.png": AS_SHOWN, "b.png": AS_SHOWN})
    cut = root / "train" / "b.png"
    cut.write_bytes(cut.read_bytes()[:60])
    config = replace(tiny_config, data=replace(tiny_config.data, root=str(root), on_fault=on_fault))
    if on_fault == "skip":
        assert len(read_data(config)[1].images) == 1
        return
    with pytest.raises(DetrLiteError, match=r"1 of 2 images would be left out \(.*b\.png.*--data.on_fault skip"):
        read_data(config)
