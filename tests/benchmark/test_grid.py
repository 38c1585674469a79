"""The data sets on which the defaults are tried, and their table."""

import numpy as np
import pytest
import torch
from benchmarks.grid import KINDS, grid
from benchmarks.grid_data import Kind, draw_data_set
from benchmarks.study import Request
from fake_runs import FakeStart
from PIL import Image
from torchvision.ops import box_iou

from detr_lite.data.coco import read_split
from detr_lite.structures import DetrLiteError

CROWDED = Kind(images=6, classes=80, objects=40, pixels=96)
SMALL = {"usual": Kind(6, 8, 3, 64), "one": Kind(5, 1, 1, 48)}


def test_a_data_set_is_what_its_kind_says(tmp_path):
    draw_data_set(tmp_path, CROWDED, val_images=3)
    for split, images in (("train", 6), ("val", 3)):
        read = read_split(tmp_path, split)
        assert len(read.images) == images
        assert len(read.categories) == 80
        counts = [len(image.labels) for image in read.images]
        assert 1 <= min(counts) <= max(counts) <= 40
        assert max(counts) > 10
        for image in read.images:
            assert (image.width, image.height) == (96, 96)
            boxes = torch.from_numpy(image.boxes_xyxy)
            assert boxes.min() >= 0
            assert boxes.max() <= 96
            assert box_iou(boxes, boxes).fill_diagonal_(0).max() == 0


def test_boxes_lie_on_the_objects(tmp_path):
    draw_data_set(tmp_path, Kind(images=8, classes=8, objects=1, pixels=96), val_images=1)
    split = read_split(tmp_path, "train")
    for image in split.images:
        pixels = np.asarray(Image.open(image.path).convert("HSV")).astype(int)
        rows, columns = np.nonzero(pixels[..., 1] > 150)  # the background is grey
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(image.boxes_xyxy[0], seen, atol=3)  # JPEG's colours are coarse


def test_the_same_kind_is_the_same_data(tmp_path):
    for name in ("one", "other"):
        draw_data_set(tmp_path / name, CROWDED, val_images=2)
    files = [sorted(path for path in (tmp_path / name).rglob("*.*")) for name in ("one", "other")]
    assert len(files[0]) == 10
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes()
    train, val = (tmp_path / "one" / split / "000001.jpg" for split in ("train", "val"))
    assert train.read_bytes() != val.read_bytes()
    train.write_bytes(b"untouched")
    draw_data_set(tmp_path / "one", CROWDED, val_images=2)
    assert train.read_bytes() == b"untouched"


def request(tmp_path, **changes) -> Request:
    given = {"config": "finetune_small.yaml", "root": None, "minutes": None, "epochs": 1, "seeds": 1}
    return Request(**{**given, "output": tmp_path / "out", "only_list": False, **changes})


def test_the_table_of_kinds(tmp_path, capsys):
    start = FakeStart(lambda run: 0.4 if run.row == "usual" else 0.2)
    grid(request(tmp_path), 30, None, start, SMALL)
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert table.splitlines()[2:4] == [
        "| usual | 6 | 8 | 1 .. 3 | 64 | 128 pixels, batches of 4, 20 queries | 400 | 0.400 | 0.800 |",
        "| one | 5 | 1 | 1 .. 1 | 48 | 96 pixels, batches of 4, 20 queries | 400 | 0.200 | 0.400 |",
    ]
    assert "at least 30 steps each; one seed." in table
    assert [run.config.trainer.max_epochs for run in start.made] == [15, 15]
    assert not any(run.config.model.pretrained for run in start.made)
    assert Image.open(tmp_path / "out" / "curves.png").width > 1000
    grid(request(tmp_path), 30, ["one"], start, SMALL)
    assert len(start.made) == 2  # kept


def test_a_list_draws_and_trains_nothing(tmp_path, capsys):
    start = FakeStart()
    grid(request(tmp_path, only_list=True), 30, ["one"], start, SMALL)
    assert "to draw    one: 5 images, 1 classes, up to 1 objects, 48 pixels" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    draw_data_set(tmp_path / "out" / "runs" / "data" / "5-1-1-48", SMALL["one"])
    grid(request(tmp_path, only_list=True), 30, ["one"], start, SMALL)
    assert "to make    one, seed 0, 15 epochs" in capsys.readouterr().out
    assert start.made == []
    assert not (tmp_path / "out" / "table.md").exists()


def test_an_unknown_kind_is_told(tmp_path):
    with pytest.raises(DetrLiteError, match="there is no 'huge'; there are: usual, few images"):
        grid(request(tmp_path), 30, ["huge"], FakeStart())


def test_the_kinds_span_what_people_bring():
    for name, least, most in (("images", 100, 10_000), ("classes", 1, 80), ("objects", 1, 150), ("pixels", 96, 640)):
        values = [getattr(kind, name) for kind in KINDS.values()]
        assert (min(values), max(values)) == (least, most)
