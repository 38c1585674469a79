"""The contact sheet of training images: their pixels and boxes, as many as asked for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detr_lite.config import Config, read_config
from detr_lite.data.transforms import MEAN, STD, ResizeRule, evaluation_transform
from detr_lite.structures import Batch, DetrLiteError, Target
from detr_lite.training.draw_augmented import PANEL, contact_sheet, draw_augmented
from detr_lite.training.input_pictures import input_pictures
from detr_lite.training.run import train


def test_pictures_are_the_images_before_normalization_without_padding() -> None:
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((20, 30), (25, 16))]
    boxes = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    targets = [Target(boxes, torch.zeros(1, dtype=torch.int64), place, (1, 1)) for place in range(2)]
    batch = Batch.from_images([evaluation_transform(ResizeRule("longest", 64))(image) for image in images], targets)
    pictures = input_pictures(batch, MEAN, STD)
    for (picture, boxes_xyxy), image in zip(pictures, images, strict=True):
        assert np.array_equal(np.asarray(picture), np.asarray(image))
        width, height = image.size
        torch.testing.assert_close(boxes_xyxy, torch.tensor([[width, height, 3 * width, 3 * height]]) / 4)


def test_panels_stand_in_rows_at_the_center_of_equal_cells() -> None:
    panels = [Image.new("RGB", size, (number, 0, 0)) for number, size in enumerate([(10, 20), (30, 4), (8, 8)])]
    sheet = np.asarray(contact_sheet(panels, columns=2))
    assert sheet.shape == (2 * 28, 2 * 38, 3)
    for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0)]):
        assert sheet[28 * row + 14, 38 * column + 19].tolist() == [number, 0, 0]
    assert (sheet[28:, 38:] == 255).all()


@pytest.mark.parametrize("count", [1, 5, 20])  # of eight images, so that the last needs a third epoch
def test_a_sheet_has_as_many_images_as_asked_for(tiny_config: Config, tmp_path: Path, count: int) -> None:
    config = replace(tiny_config, data=replace(tiny_config.data, augmentation="photographs", batch_size=3))
    draw_augmented(config, tmp_path / "sheet.png", count)
    with Image.open(tmp_path / "sheet.png") as sheet:
        columns, rows = min(count, 6), -(-count // 6)
        cell_width, cell_height = sheet.width // columns, sheet.height // rows
        assert max(cell_width, cell_height) == PANEL + 8
        for number in range(rows * columns):
            row, column = divmod(number, columns)
            box = (column * cell_width, row * cell_height, (column + 1) * cell_width, (row + 1) * cell_height)
            assert (np.asarray(sheet.crop(box)).std() > 5) == (number < count)


@pytest.mark.slow
def test_train_draws_and_starts_no_run(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--config", "finetune_small.yaml", "--data.root", str(tiny_data), "--data.mosaic", "0.5"]
    train(read_config([*words, "--draw_augmented", "sheet.png"]))
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    with pytest.raises(DetrLiteError, match="png"):
        train(read_config([*words, "--draw_augmented", "sheet.jpg"]))
    with pytest.raises(DetrLiteError, match="--overwrite"):
        read_config([*words, "--draw_augmented", "sheet.png", "--overwrite"])
