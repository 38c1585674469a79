"""Presets: each can be read and built, from any folder; and where the drawn dataset is."""

from dataclasses import replace
from pathlib import Path

import pytest

from detr_lite.build import build_augmentation, build_criterion, build_model, build_postprocess, build_resize
from detr_lite.config import DEFAULT_ROOT, ModelConfig, available_presets, data_root, read_config, write_config
from detr_lite.config.presets import PRESETS
from detr_lite.data.augmentation.training import training_transform
from detr_lite.data.reading import read_split
from detr_lite.training.auto import choose_sizes

PROJECT = Path(__file__).resolve().parents[2]
FILES = sorted(PRESETS.glob("*.yaml"))


def test_the_presets_are_those_of_the_checkout() -> None:
    assert "coco_small.yaml" in available_presets()
    assert available_presets() == sorted(path.name for path in (PROJECT / "configs").iterdir())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.slow
def test_reads_and_builds(path: Path, tiny_data: Path) -> None:
    config, _ = choose_sizes(read_config(["--config", path.name]).config, read_split(tiny_data, "train"))
    model = build_model(replace(config.model, pretrained=False), classes=5)
    assert sum(parameter.numel() for parameter in model.parameters()) > 0
    build_criterion(config, classes=3)
    build_postprocess(config.model, ["a", "b", "c", "d", "e"])
    training_transform(build_augmentation(config.data), build_resize(config.data))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_resolved_file_of_a_run_gives_the_same_settings(path: Path, tmp_path: Path) -> None:
    config = read_config(["--config", str(path)]).config
    write_config(config, tmp_path / "config.yaml")
    assert read_config(["--config", str(tmp_path / "config.yaml")]).config == config


def test_as_many_detections_come_back_as_there_are_queries() -> None:
    many, few = ModelConfig(num_queries=250), ModelConfig(num_queries=20)
    assert build_postprocess(many, ["a"]).max_detections == 250
    assert build_postprocess(few, ["a", "b"]).max_detections == 100


def test_the_drawn_dataset_is_in_the_current_folder_or_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DETR_LITE_DATA", raising=False)
    assert data_root(DEFAULT_ROOT) == Path("datasets/coco_small")
    monkeypatch.setenv("DETR_LITE_DATA", "")
    assert data_root(DEFAULT_ROOT) == Path("datasets/coco_small")
    monkeypatch.setenv("DETR_LITE_DATA", "/data")
    assert data_root(DEFAULT_ROOT) == Path("/data/coco_small")
    assert data_root("datasets/mine") == Path("datasets/mine")
