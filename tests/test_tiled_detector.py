"""Large pictures in tiles: the detector, and `evaluate --tile`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from detr_lite.detector import Detector
from detr_lite.evaluation.tile_grid import tile_grid
from detr_lite.evaluation.tile_merge import merge_tiles
from detr_lite.structures import DetrLiteError

TILE, OVERLAP = 64, 0.25


@pytest.fixture(scope="module")
def picture(tiny_data: Path) -> Image.Image:
    wide = Image.new("RGB", (190, 130), (190, 190, 190))
    for place, name in enumerate(("000", "002", "003")):
        with Image.open(tiny_data / "val" / f"{name}.png") as image:
            wide.paste(image, (60 * place, 20 * place))
    return wide


@pytest.fixture(scope="module")
def detector(finished_run: Path) -> Detector:
    return Detector.from_checkpoint(finished_run, "cpu")


@pytest.fixture(scope="module")
def tiled(finished_run: Path) -> Detector:
    return Detector.from_checkpoint(finished_run, "cpu", tile=TILE, overlap=OVERLAP)


@pytest.mark.slow
def test_tiles_are_detected_like_images_of_their_own(detector: Detector, tiled: Detector, picture: Image.Image) -> None:
    frames = tile_grid(130, 190, TILE, OVERLAP)
    views = [detector(picture.crop(tuple(frame))) for frame in frames.tolist()]
    expected = merge_tiles([*views, detector(picture)], np.concatenate([frames, [[0, 0, 190, 130]]]), (130, 190))
    found = tiled(picture, batch_size=3)
    assert len(found) == len(expected) > 20
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
    assert (found.scores.diff() <= 0).all()
    assert found.image_size == (130, 190)
    assert set(found.tiles.tolist()) <= set(range(-1, len(frames)))
    assert (found.boxes_xyxy[:, 2:] <= torch.tensor([190.0, 130.0])).all()


@pytest.mark.slow
def test_a_list_of_large_and_small_images_keeps_its_order(
    detector: Detector, tiled: Detector, picture: Image.Image
) -> None:
    small = picture.crop((0, 0, 64, 48))
    found = tiled([small, picture, small], batch_size=2)
    assert [each.tiles is None for each in found] == [True, False, True]
    assert found[0].scores.tolist() == found[2].scores.tolist() == detector(small).scores.tolist()
    torch.testing.assert_close(found[1].scores, tiled(picture).scores, atol=1e-5, rtol=0)


def test_nms_is_applied_to_the_merged_detections(finished_run: Path, picture: Image.Image) -> None:
    strict = Detector.from_checkpoint(finished_run, "cpu", nms=0.1, tile=TILE)
    found = strict(picture)
    for label in set(found.labels.tolist()):
        own = found.boxes_xyxy[found.labels == label]
        assert (box_iou(own, own).fill_diagonal_(0) <= 0.1).all()


def test_attention_is_that_of_the_whole_picture(detector: Detector, tiled: Detector, picture: Image.Image) -> None:
    torch.testing.assert_close(tiled.attend(picture).cross, detector.attend(picture).cross)


def test_impossible_tiles_are_refused_before_the_checkpoint_is_read(tmp_path: Path) -> None:
    with pytest.raises(DetrLiteError, match="--tile is 8"):
        Detector.from_checkpoint(tmp_path / "none.ckpt", "cpu", tile=8)


@pytest.mark.slow
def test_evaluate_in_tiles(run_tool: Callable[..., Any], finished_run: Path, tmp_path: Path) -> None:
    words = ("evaluate", "--checkpoint", finished_run, "--num_workers", 0)
    assert run_tool(*words, "--output", tmp_path / "whole").code == 0
    assert run_tool(*words, "--output", tmp_path / "untiled", "--tile", 90).code == 0
    whole, same = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "untiled"))
    assert (same.pop("tile"), same.pop("overlap")) == (90, 0.2)
    assert same == pytest.approx(whole, abs=2e-2), "no image is larger than a tile; a batch of several pads its images"
    assert run_tool(*words, "--output", tmp_path / "tiled", "--tile", 48, "--overlap", 0.5).code == 0
    tiled = json.loads((tmp_path / "tiled" / "metrics.json").read_text())
    assert (tiled["tile"], tiled["overlap"]) == (48, 0.5)
    assert tiled["AP"] != whole["AP"]
    ended = run_tool(*words, "--tile", 48, "--overlap", 1.5)
    assert (ended.code, ended.err.startswith("error: --overlap is 1.5")) == (2, True)
