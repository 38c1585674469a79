"""Checkpoints: what they hold, what a model from one answers, and every way in which a file is none."""

import io
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_lite.build import build_model
from detr_lite.config import Config, read_config
from detr_lite.data.transforms import MEAN, STD, ResizeRule
from detr_lite.structures import Batch, Category, DetrLiteError
from detr_lite.weights.checkpoint import FORMAT, KEY, Description, describe_checkpoint, load_model, read_checkpoint

CATEGORIES = (Category(3, "blue thing"), Category(7, "red thing"), Category(90, "green thing"))


@pytest.fixture
def content(tiny_config: Config) -> dict[str, Any]:
    """What a checkpoint of an untrained model holds, to be changed and saved."""
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


def what_is_not_plain(value: Any, where: str = "checkpoint") -> list[str]:
    if isinstance(value, dict):
        keys = [f"{where}: key {key!r}" for key in value if not isinstance(key, str | int)]
        return keys + [odd for key, inner in value.items() for odd in what_is_not_plain(inner, f"{where}[{key!r}]")]
    if isinstance(value, list | tuple):
        return [odd for index, inner in enumerate(value) for odd in what_is_not_plain(inner, f"{where}[{index}]")]
    is_plain = value is None or type(value) in (bool, int, float, str, torch.Tensor)
    return [] if is_plain else [f"{where}: {type(value)}"]


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_checkpoint_of_a_run_holds_tensors_and_plain_types_only(finished_run: Path, name: str) -> None:
    checkpoint = torch.load(finished_run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    assert what_is_not_plain(checkpoint) == []


def test_the_search_for_what_is_not_plain_finds_it() -> None:
    assert what_is_not_plain({"a": [1, {"b": (Path("x"),)}]}) != []
    assert what_is_not_plain({(1, 2): 3}) != []


def test_a_checkpoint_of_a_run_says_all_that_is_needed_to_use_it(finished_run: Path) -> None:
    path = finished_run / "checkpoints" / "best.ckpt"
    description = describe_checkpoint(read_checkpoint(path), path)
    assert description.config == read_config(["--config", str(finished_run / "config.yaml")]).config
    assert description.categories == CATEGORIES
    assert description.resize == ResizeRule("longest", 64)
    assert (description.mean, description.std) == (MEAN, STD)


def test_a_description_through_a_dict_and_back(tiny_config: Config) -> None:
    description = Description(tiny_config, CATEGORIES, ResizeRule("shortest", 64, 100), MEAN, STD)
    assert what_is_not_plain(description.to_dict()) == []
    assert Description.from_dict(description.to_dict()) == description


@pytest.mark.parametrize("name", ["lite", "detr"])
@pytest.mark.parametrize("pretrained", [False, True])
def test_a_loaded_model_answers_as_the_one_that_was_saved(
    tiny_config: Config, tmp_path: Path, name: str, pretrained: bool
) -> None:
    """With pretrained weights asked for, too: batch norm is frozen as in training, and nothing is fetched."""
    config = replace(tiny_config, model=replace(tiny_config.model, name=name, pretrained=pretrained))
    torch.manual_seed(0)
    model = build_model(config.model, len(CATEGORIES), for_checkpoint=True).train()
    batch = Batch.from_images([torch.randn(3, 64, 48), torch.randn(3, 48, 64)])
    model(batch)  # moves the statistics of batch norm, where it trains
    description = Description(config, CATEGORIES, ResizeRule("longest", 64), MEAN, STD)
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    path = saved({KEY: description.to_dict(), "state_dict": state}, tmp_path)

    loaded, loaded_description = load_model(path)

    assert loaded_description == description
    assert not loaded.training
    with torch.no_grad():
        expected, answer = model.eval()(batch), loaded(batch)
    assert torch.equal(expected.logits, answer.logits)
    assert torch.equal(expected.boxes_cxcywh, answer.boxes_cxcywh)


def test_weights_that_do_not_fit_are_named(content: dict[str, Any], tmp_path: Path) -> None:
    state = content["state_dict"]
    state["model.content_of_another"] = torch.zeros(1)
    del state["model.queries.content.weight"]
    state["model.heads.label.0.bias"] = torch.zeros(5)
    message = refused(saved(content, tmp_path))
    for name in ("content_of_another", "queries.content.weight", "heads.label.0.bias"):
        assert name in message


def test_of_many_weights_that_do_not_fit_some_are_named(content: dict[str, Any], tmp_path: Path) -> None:
    content["state_dict"] = {}
    assert " more" in refused(saved(content, tmp_path))


@pytest.mark.parametrize("version", [FORMAT + 1, 0, None, "1"])
def test_another_format_is_told_with_both_numbers(content: dict[str, Any], tmp_path: Path, version: Any) -> None:
    content[KEY]["format"] = version
    assert refused(saved(content, tmp_path)) == (
        f"a checkpoint of format {version}; this version of detr_lite reads format {FORMAT}"
    )


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
def test_a_description_that_makes_no_sense_is_told(
    content: dict[str, Any], tmp_path: Path, key: str, value: Any
) -> None:
    content[KEY][key] = value
    refused(saved(content, tmp_path))
    del content[KEY][key]
    assert "not complete" in refused(saved(content, tmp_path))


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
def test_what_others_saved_with_torch_is_told(tmp_path: Path, foreign: Any) -> None:
    assert refused(saved(foreign, tmp_path)) == "not a checkpoint that detr_lite wrote"


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing.ckpt") == "no such checkpoint"
    assert refused(tmp_path) == "no such checkpoint"


@pytest.mark.parametrize("data", [b"", b"just some text\n", b"\x80\x04garbage", bytes(range(256)) * 50])
def test_what_is_no_checkpoint_at_all_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "some.ckpt"
    path.write_bytes(data)
    assert refused(path).startswith("not a checkpoint")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_told(content: dict[str, Any], tmp_path: Path, share: float) -> None:
    path = saved(content, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "cut off" in refused(path)


def test_a_zip_of_something_else_is_told(tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "not weights")
    assert refused(path).startswith("not a checkpoint")


class Payload:
    """Unpickled by a careless reader, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["plain pickle", "torch.save", "within a real one"])
def test_a_file_that_asks_for_code_is_refused_and_nothing_runs(
    content: dict[str, Any], tmp_path: Path, how: str
) -> None:
    made = tmp_path / "made_by_payload"
    path = tmp_path / "some.ckpt"
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(Payload(made)))
    elif how == "torch.save":
        torch.save({KEY: Payload(made)}, path)
    else:
        torch.save({**content, "callbacks": [Payload(made)]}, path)
    assert "not a checkpoint" in refused(path)
    assert not made.exists()


def test_the_payload_would_have_worked(tmp_path: Path) -> None:
    pickle.load(io.BytesIO(pickle.dumps(Payload(tmp_path / "made"))))
    assert (tmp_path / "made").exists()
