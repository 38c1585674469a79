"""What is handed out comes back bit by bit, and nothing in it is pickled but where the original's own file is."""

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import OriginalDetr
from PIL import Image
from safetensors import safe_open

import detr_lite
from detr_lite.build import build_model
from detr_lite.config import Config
from detr_lite.data.transforms import MEAN, STD, ResizeRule
from detr_lite.structures import Category, DetrLiteError
from detr_lite.weights import import_checkpoint
from detr_lite.weights.checkpoint import Description, load_model, write_checkpoint
from detr_lite.weights.export import export_checkpoint
from detr_lite.weights.imports import read_foreign

CATEGORIES = (Category(3, "blue thing"), Category(7, "red thing"))


@pytest.fixture
def best(finished_run: Path) -> Path:
    return finished_run / "checkpoints" / "best.ckpt"


@pytest.fixture
def checkpoint_of(tiny_config: Config, tmp_path: Path) -> Callable[..., Path]:
    """A checkpoint of an untrained `detr`, with changes to its settings."""

    def make(**changes: Any) -> Path:
        sizes = {"name": "detr", "backbone": "resnet18", "strides": (32,)}
        config = replace(tiny_config, model=replace(tiny_config.model, **{**sizes, **changes}))
        torch.manual_seed(0)
        description = Description(config, CATEGORIES, ResizeRule("longest", 64), MEAN, STD)
        write_checkpoint(tmp_path / "some.ckpt", build_model(config.model, len(CATEGORIES)), description)
        return tmp_path / "some.ckpt"

    return make


@pytest.mark.parametrize("what", ["folder", "file"])
def test_exported_weights_are_used_like_a_checkpoint(best: Path, tmp_path: Path, what: str) -> None:
    """By the path of the .safetensors file, or by the folder that holds the pair."""
    output = tmp_path / "exported" if what == "folder" else tmp_path / "exported" / "mine.safetensors"
    export_checkpoint(best, output)
    stem = "model" if what == "folder" else "mine"
    assert {file.name for file in (tmp_path / "exported").iterdir()} == {f"{stem}.safetensors", f"{stem}.json"}
    expected, description = load_model(best)
    for path in (tmp_path / "exported", tmp_path / "exported" / f"{stem}.safetensors"):
        model, described = load_model(path)
        assert described == description
        assert all(torch.equal(value, expected.state_dict()[name]) for name, value in model.state_dict().items())
        assert read_foreign(path).description == description
    image = Image.effect_noise((60, 40), 90).convert("RGB")
    here, there = (detr_lite.Detector.from_checkpoint(path, "cpu")(image) for path in (best, output))
    assert torch.equal(here.boxes_xyxy, there.boxes_xyxy)
    assert torch.equal(here.scores, there.scores)


def test_exported_weights_are_plain(best: Path, tmp_path: Path) -> None:
    export_checkpoint(best, tmp_path / "mine.safetensors")
    with safe_open(tmp_path / "mine.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == set(load_model(best)[0].state_dict())
    description = json.loads((tmp_path / "mine.json").read_text())["detr_lite"]
    assert description["categories"][0] == {"id": 3, "name": "blue thing"}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "model.json").unlink(), "model.json is not beside it"),
        (lambda folder: (folder / "model.json").write_text("{"), "not readable as JSON"),
        (lambda folder: (folder / "model.json").write_text("{}"), "not a checkpoint that detr_lite wrote"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"12345678"), "not a safetensors file, or cut off"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no such checkpoint"),
    ],
    ids=["no json", "half a json", "another json", "no safetensors", "nothing"],
)
def test_half_of_an_export_is_told(best: Path, tmp_path: Path, spoil: Callable[[Path], object], reason: str) -> None:
    export_checkpoint(best, tmp_path / "exported")
    spoil(tmp_path / "exported")
    with pytest.raises(DetrLiteError, match=reason):
        load_model(tmp_path / "exported")


def test_the_originals_weights_come_back_bit_by_bit(
    original: tuple[OriginalDetr, Namespace], pth: Path, run_tool: Callable[..., Any], tmp_path: Path
) -> None:
    """Original, ours, original: by the tools."""
    ours, back = tmp_path / "ours.ckpt", tmp_path / "back.pth"
    assert run_tool("import_checkpoint", pth, ours).code == 0
    ended = run_tool("export", "--checkpoint", ours, "--output", back, "--format", "official")
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "note       the file does not tell DC5 (no) and heads (4)",
        "note       its class layer has 92 rows, without their names; the original's code makes as many with "
        "num_classes = 91",
        f"written    {back}",
    ]
    content = torch.load(back, weights_only=True)
    state = original[0].state_dict()
    assert list(content) == ["model"]
    assert content["model"].keys() == state.keys()
    assert all(torch.equal(content["model"][name], value) for name, value in state.items())
    original[0].load_state_dict(content["model"])  # strictly: this is how the original reads it


def test_a_model_that_trained_its_norms_is_exported_as_the_original(
    checkpoint_of: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its norms count their steps, which the original's do not."""
    path = checkpoint_of()
    export_checkpoint(path, tmp_path / "some.pth", format="official")
    assert "its class layer has 3 rows, without their names" in capsys.readouterr().out
    state = torch.load(tmp_path / "some.pth", weights_only=True)["model"]
    assert not any(name.endswith("num_batches_tracked") for name in state)
    answer = import_checkpoint(tmp_path / "some.pth", dc5=False, heads=2).state_dict()
    expected = load_model(path)[0].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in answer.items())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "lite"}, "model.name lite with strides [32] is not the original's architecture"),
        ({"strides": (16, 32)}, "model.name detr with strides [16, 32] is not"),
        ({"strides": (16,)}, "model.name detr with strides [16] is not"),
        ({"backbone": "resnet10t"}, "model.backbone resnet10t is not one of the original's, resnet18, resnet34"),
    ],
)
def test_other_models_have_no_place_in_the_originals_layout(
    checkpoint_of: Callable[..., Path],
    refusal: Callable[..., str],
    tmp_path: Path,
    changes: dict[str, Any],
    reason: str,
) -> None:
    words = ("--output", tmp_path / "some.pth", "--format", "official")
    message = refusal("export", "--checkpoint", checkpoint_of(**changes), *words)
    assert message.startswith(reason)
    assert message.endswith("export safetensors")
    assert not (tmp_path / "some.pth").exists()


def test_nothing_is_replaced_unasked(refusal: Callable[..., str], best: Path, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("mine")
    reason = f"{tmp_path / 'model.json'} exists; name another file, or give --overwrite to replace it"
    assert refusal("export", "--checkpoint", best, "--output", tmp_path) == reason
    assert [file.name for file in tmp_path.iterdir()] == ["model.json"]
    export_checkpoint(best, tmp_path, overwrite=True)
    load_model(tmp_path)


def test_the_tool_on_a_wrong_command_line(refusal: Callable[..., str], best: Path, tmp_path: Path) -> None:
    assert refusal("export", "--checkpoint", best).startswith("the following arguments are required: --output")
    words = ("--output", tmp_path / "out", "--format", "onnx")
    assert "invalid choice: 'onnx'" in refusal("export", "--checkpoint", best, *words)
    assert (
        refusal("export", "--checkpoint", "none.ckpt", "--output", tmp_path / "out") == "none.ckpt: no such checkpoint"
    )
    assert not (tmp_path / "out").exists()
