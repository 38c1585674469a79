"""Checkpoints: their content, predictions of loaded models, and files that are no valid checkpoint."""

import io
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from detr_lite.build import build_model
from detr_lite.config import Config, read_config
from detr_lite.data.transforms import MEAN, STD, ResizeRule
from detr_lite.structures import Batch, Category, DetrLiteError
from detr_lite.weights.checkpoint import (
    FORMAT,
    KEY,
    Description,
    describe_checkpoint,
    load_model,
    read_checkpoint,
    store_thresholds,
)
from detr_lite.weights.score_thresholds import ScoreThresholds

CATEGORIES = (Category(3, "blue thing"), Category(7, "red thing"), Category(90, "green thing"))


@pytest.fixture
def content(tiny_config: Config) -> dict[str, Any]:
    """Content of a checkpoint of an untrained model, to be changed and saved."""
    torch.manual_seed(0)
    model = build_model(tiny_config.model, len(CATEGORIES))
    description = Description(tiny_config, CATEGORIES, ResizeRule("longest", 64), MEAN, STD)
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    return {KEY: description.to_dict(), "state_dict": state}


def saved(content: Any, tmp_path: Path) -> Path:
    path = tmp_path / "some.ckpt"
    torch.save(content, path)
    return path


def refused(path: Path) -> str:
    with pytest.raises(DetrLiteError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 300
    return message.removeprefix(f"{path}: ")


def other_types(value: Any, where: str = "checkpoint") -> list[str]:
    if isinstance(value, dict):
        keys = [f"{where}: key {key!r}" for key in value if not isinstance(key, str | int)]
        return keys + [other for key, inner in value.items() for other in other_types(inner, f"{where}[{key!r}]")]
    if isinstance(value, list | tuple):
        return [other for index, inner in enumerate(value) for other in other_types(inner, f"{where}[{index}]")]
    is_plain = value is None or type(value) in (bool, int, float, str, torch.Tensor)
    return [] if is_plain else [f"{where}: {type(value)}"]


@pytest.mark.parametrize("name", ["best", "last"])
def test_checkpoints_of_a_run_contain_tensors_and_plain_types_only(finished_run: Path, name: str) -> None:
    checkpoint = torch.load(finished_run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    assert other_types(checkpoint) == []


def test_other_types_are_found() -> None:
    assert other_types({"a": [1, {"b": (Path("x"),)}]}) != []
    assert other_types({(1, 2): 3}) != []


def test_the_checkpoint_of_a_run_contains_its_description(finished_run: Path) -> None:
    path = finished_run / "checkpoints" / "best.ckpt"
    description = describe_checkpoint(read_checkpoint(path), path)
    assert description.config == read_config(["--config", str(finished_run / "config.yaml")]).config
    assert description.categories == CATEGORIES
    assert description.resize == ResizeRule("longest", 64)
    assert (description.mean, description.std) == (MEAN, STD)


def test_description_round_trip_through_a_dict(tiny_config: Config) -> None:
    description = Description(tiny_config, CATEGORIES, ResizeRule("shortest", 64, 100), MEAN, STD)
    assert other_types(description.to_dict()) == []
    assert Description.from_dict(description.to_dict()) == description


THRESHOLDS = ScoreThresholds(0.4, (0.25, 0.5, 0.4))


def assert_equal(value: Any, other: Any) -> None:
    """Also of nested values; tensors to the bit, with their dtypes."""
    assert type(value) is type(other)
    if isinstance(value, dict):
        assert list(value) == list(other)
        for key in value:
            assert_equal(value[key], other[key])
    elif isinstance(value, list | tuple):
        assert len(value) == len(other)
        for one, another in zip(value, other, strict=True):
            assert_equal(one, another)
    elif isinstance(value, torch.Tensor):
        assert (value.dtype, value.shape, value.stride()) == (other.dtype, other.shape, other.stride())
        assert torch.equal(value.nan_to_num(7.5), other.nan_to_num(7.5))
    else:
        assert value == other


@pytest.mark.parametrize("name", ["best", "last"])
def test_thresholds_are_added_and_nothing_else_changes(finished_run: Path, tmp_path: Path, name: str) -> None:
    """Neither in the state of training nor in another file that is the same one under a second name."""
    path = tmp_path / "some.ckpt"
    path.write_bytes((finished_run / "checkpoints" / f"{name}.ckpt").read_bytes())
    backup = tmp_path / "backup.ckpt"
    backup.hardlink_to(path)
    store_thresholds(path, THRESHOLDS)
    before, after = (torch.load(file, weights_only=True) for file in (backup, path))
    assert after[KEY].pop("thresholds") == {"overall": 0.4, "per_class": [0.25, 0.5, 0.4]}
    assert before[KEY].pop("thresholds", None) != {"overall": 0.4, "per_class": [0.25, 0.5, 0.4]}
    assert_equal(after, before)
    assert other_types(after) == []
    assert load_model(path)[1].thresholds == THRESHOLDS


def test_the_same_thresholds_are_not_written_again(content: dict[str, Any], tmp_path: Path) -> None:
    path = saved(content, tmp_path)
    store_thresholds(path, THRESHOLDS)
    written = path.stat().st_ino
    store_thresholds(path, THRESHOLDS)
    assert path.stat().st_ino == written
    store_thresholds(path, replace(THRESHOLDS, overall=0.41))
    assert load_model(path)[1].thresholds == replace(THRESHOLDS, overall=0.41)


def test_a_failure_while_thresholds_are_written_leaves_the_checkpoint(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(content, tmp_path)
    before = path.read_bytes()

    def fail(content: Any, file: Any) -> None:
        file.write(b"the first part")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("detr_lite.weights.checkpoint.torch.save", fail)
        with pytest.raises(DetrLiteError, match="make room on the disk"):
            store_thresholds(path, THRESHOLDS)
    with pytest.raises(DetrLiteError, match="score thresholds of 2 classes, but there are 3"):
        store_thresholds(path, replace(THRESHOLDS, per_class=(0.5, 0.5)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "thresholds",
    [
        {"overall": 0.5, "per_class": [0.5, 0.5]},
        {"overall": 0.5, "per_class": [0.5, 0.5, 1.5]},
        {"overall": float("nan"), "per_class": [0.5, 0.5, 0.5]},
        {"overall": 0.5, "per_class": ["0.5", 0.5, 0.5]},
        {"overall": True, "per_class": [0.5, 0.5, 0.5]},
        {"overall": 0.5, "per_class": 3},
        {"per_class": [0.5, 0.5, 0.5]},
        [0.5, 0.5, 0.5],
    ],
)
def test_invalid_thresholds_are_refused(content: dict[str, Any], tmp_path: Path, thresholds: Any) -> None:
    content[KEY]["thresholds"] = thresholds
    message = refused(saved(content, tmp_path))
    assert message.startswith(("score threshold", "its description is incomplete"))


@pytest.mark.parametrize("name", ["lite", "detr"])
@pytest.mark.parametrize("pretrained", [False, True])
def test_a_loaded_model_predicts_as_the_saved_one(
    tiny_config: Config, tmp_path: Path, name: str, pretrained: bool
) -> None:
    """Also with pretrained weights: batch norm is frozen as in training, and nothing is downloaded."""
    config = replace(tiny_config, model=replace(tiny_config.model, name=name, pretrained=pretrained))
    torch.manual_seed(0)
    model = build_model(config.model, len(CATEGORIES), for_checkpoint=True).train()
    batch = Batch.from_images([torch.randn(3, 64, 48), torch.randn(3, 48, 64)])
    model(batch)  # changes the statistics of batch norm unless it is frozen
    description = Description(config, CATEGORIES, ResizeRule("longest", 64), MEAN, STD)
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    path = saved({KEY: description.to_dict(), "state_dict": state}, tmp_path)

    loaded, loaded_description = load_model(path)

    assert loaded_description == description
    assert not loaded.training
    with torch.no_grad():
        expected, output = model.eval()(batch), loaded(batch)
    assert torch.equal(output.logits, expected.logits)
    assert torch.equal(output.boxes_cxcywh, expected.boxes_cxcywh)


def test_weights_that_do_not_match_are_named(content: dict[str, Any], tmp_path: Path) -> None:
    state = content["state_dict"]
    state["model.other.weight"] = torch.zeros(1)
    del state["model.queries.content.weight"]
    state["model.heads.label.0.bias"] = torch.zeros(5)
    message = refused(saved(content, tmp_path))
    for name in ("other.weight", "queries.content.weight", "heads.label.0.bias"):
        assert name in message


def test_of_many_weights_that_do_not_match_some_are_named(content: dict[str, Any], tmp_path: Path) -> None:
    content["state_dict"] = {}
    assert " more" in refused(saved(content, tmp_path))


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        (FORMAT + 1, "update detr_lite"),
        (4, "train again, or use the version of detr_lite that wrote it"),
        (0, "train again, or use the version of detr_lite that wrote it"),
        (None, "train again, or use the version of detr_lite that wrote it"),
        ("1", "train again, or use the version of detr_lite that wrote it"),
    ],
)
def test_another_format_is_refused_with_a_remedy(
    content: dict[str, Any], tmp_path: Path, version: Any, remedy: str
) -> None:
    content[KEY]["format"] = version
    assert refused(saved(content, tmp_path)) == (
        f"checkpoint format {version!r}, but this version of detr_lite reads format {FORMAT}; {remedy}"
    )


def test_an_export_of_another_format_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    content[KEY]["format"] = 4
    state = {name: value.contiguous() for name, value in content["state_dict"].items()}
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text(json.dumps({KEY: content[KEY]}))
    assert "checkpoint format 4, but" in refused(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", None),
        ("config", {"data": {}}),
        ("categories", [{"id": 1}]),
        ("categories", 7),
        ("resize", "longest"),
        ("resize", {"kind": "widest", "size": 3, "max_size": None}),
        ("mean", None),
    ],
)
def test_an_invalid_description_is_refused(content: dict[str, Any], tmp_path: Path, key: str, value: Any) -> None:
    content[KEY][key] = value
    refused(saved(content, tmp_path))
    del content[KEY][key]
    assert "incomplete" in refused(saved(content, tmp_path))


@pytest.mark.parametrize(
    "foreign",
    [
        {"model": {"weight": torch.zeros(2)}},
        {"state_dict": {"weight": torch.zeros(2)}},
        {KEY: {"format": FORMAT}, "state_dict": 3},
        {KEY: {"format": FORMAT}, "state_dict": {"weight": "text"}},
        [1, 2, 3],
        torch.zeros(3),
    ],
)
def test_files_of_other_programs_are_refused(tmp_path: Path, foreign: Any) -> None:
    assert refused(saved(foreign, tmp_path)) == "not a checkpoint of detr_lite"


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing.ckpt") == "no such checkpoint"
    assert refused(tmp_path) == "no such checkpoint"


@pytest.mark.parametrize("data", [b"", b"just some text\n", b"\x80\x04garbage", bytes(range(256)) * 50])
def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "some.ckpt"
    path.write_bytes(data)
    assert refused(path).startswith("not a checkpoint")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_refused(content: dict[str, Any], tmp_path: Path, share: float) -> None:
    path = saved(content, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "cut off" in refused(path)


def test_another_zip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "not weights")
    assert refused(path).startswith("not a checkpoint")


class Payload:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["plain pickle", "torch.save", "within a real one"])
def test_a_file_with_code_is_refused_and_the_code_does_not_run(
    content: dict[str, Any], tmp_path: Path, how: str
) -> None:
    created = tmp_path / "created_by_payload"
    path = tmp_path / "some.ckpt"
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(Payload(created)))
    elif how == "torch.save":
        torch.save({KEY: Payload(created)}, path)
    else:
        torch.save({**content, "callbacks": [Payload(created)]}, path)
    assert "not a checkpoint" in refused(path)
    assert not created.exists()


def test_the_payload_works_when_it_is_unpickled(tmp_path: Path) -> None:
    pickle.load(io.BytesIO(pickle.dumps(Payload(tmp_path / "created"))))
    assert (tmp_path / "created").exists()
