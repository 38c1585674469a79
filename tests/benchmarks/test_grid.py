"""The generated datasets of the grid, and its table."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from benchmarks.grid import DATASETS, grid
from benchmarks.grid_data import DatasetSpec, generate_dataset
from benchmarks.study import Request
from detr_lite.data.reading import read_split
from detr_lite.structures import DetrLiteError
from tests.helpers.fake_runs import FakeLauncher

CROWDED = DatasetSpec(images=6, classes=80, objects=40, pixels=96)
SMALL = {"typical": DatasetSpec(6, 8, 3, 64), "one": DatasetSpec(5, 1, 1, 48)}


def test_a_dataset_follows_its_spec(tmp_path):
    generate_dataset(tmp_path, CROWDED, val_images=3)
    for name, images in (("train", 6), ("val", 3)):
        split = read_split(tmp_path, name)
        assert len(split.images) == images
        assert len(split.categories) == 80
        counts = [len(image.labels) for image in split.images]
        assert 1 <= min(counts) <= max(counts) <= 40
        assert max(counts) > 10
        for image in split.images:
            assert (image.width, image.height) == (96, 96)
            boxes = torch.from_numpy(image.boxes_xyxy)
            assert boxes.min() >= 0
            assert boxes.max() <= 96
            assert box_iou(boxes, boxes).fill_diagonal_(0).max() == 0


def test_boxes_enclose_the_objects(tmp_path):
    generate_dataset(tmp_path, DatasetSpec(images=8, classes=8, objects=1, pixels=96), val_images=1)
    split = read_split(tmp_path, "train")
    assert len(split.images) == 8
    for image in split.images:
        pixels = np.asarray(Image.open(image.path).convert("HSV")).astype(int)
        rows, columns = np.nonzero(pixels[..., 1] > 150)  # the background is grey
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(image.boxes_xyxy[0], extent, atol=3)  # JPEG stores color at half resolution


def test_generation_is_deterministic_and_keeps_existing_files(tmp_path):
    for name in ("first", "second"):
        generate_dataset(tmp_path / name, CROWDED, val_images=2)
    files = [sorted(path for path in (tmp_path / name).rglob("*.*")) for name in ("first", "second")]
    assert len(files[0]) == 10
    for first, second in zip(*files, strict=True):
        assert first.read_bytes() == second.read_bytes()
    train, val = (tmp_path / "first" / split / "000001.jpg" for split in ("train", "val"))
    assert train.read_bytes() != val.read_bytes()
    train.write_bytes(b"unchanged")
    generate_dataset(tmp_path / "first", CROWDED, val_images=2)
    assert train.read_bytes() == b"unchanged"


def request(tmp_path, **changes) -> Request:
    options = {"config": "finetune_small.yaml", "root": None, "minutes": None, "epochs": 1, "seeds": 1}
    return Request(**{**options, "output": tmp_path / "out", "list_only": False, **changes})


@pytest.mark.stress
def test_the_table_of_datasets(tmp_path, capsys):
    launcher = FakeLauncher(lambda run: 0.4 if run.row == "typical" else 0.2)
    grid(request(tmp_path), 30, None, launcher, SMALL)
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert table.splitlines()[2:4] == [
        "| typical | 6 | 8 | 1 .. 3 | 64 | 128 pixels, batch size 4, 20 queries | 400 | 0.400 | 0.800 |",
        "| one | 5 | 1 | 1 .. 1 | 48 | 96 pixels, batch size 4, 20 queries | 400 | 0.200 | 0.400 |",
    ]
    assert "at least 30 steps each; one seed." in table
    assert [run.config.trainer.max_epochs for run in launcher.launched] == [15, 15]
    assert not any(run.config.model.pretrained for run in launcher.launched)
    assert Image.open(tmp_path / "out" / "curves.png").width > 1000
    grid(request(tmp_path), 30, ["one"], launcher, SMALL)
    assert len(launcher.launched) == 2  # finished runs are kept


def test_list_generates_and_trains_nothing(tmp_path, capsys):
    launcher = FakeLauncher()
    grid(request(tmp_path, list_only=True), 30, ["one"], launcher, SMALL)
    message = "missing: dataset 'one' (5 images, 1 classes, up to 1 objects, 48 pixels) and a run of at least 30 steps"
    assert message in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    generate_dataset(tmp_path / "out" / "runs" / "data" / "5-1-1-48", SMALL["one"])
    grid(request(tmp_path, list_only=True), 30, ["one"], launcher, SMALL)
    assert "missing: one, seed 0, 15 epochs" in capsys.readouterr().out
    assert launcher.launched == []
    assert not (tmp_path / "out" / "table.md").exists()


def test_an_unknown_row_is_refused(tmp_path):
    with pytest.raises(DetrLiteError, match="there is no 'huge'; there are: typical, few images"):
        grid(request(tmp_path), 30, ["huge"], FakeLauncher())


def test_the_datasets_cover_a_wide_range():
    ranges = {"images": (100, 10_000), "classes": (1, 80), "objects": (1, 150), "pixels": (96, 640)}
    for name, expected in ranges.items():
        values = [getattr(spec, name) for spec in DATASETS.values()]
        assert (min(values), max(values)) == expected
    assert not any("," in name for name in DATASETS)  # `--rows` is comma-separated
