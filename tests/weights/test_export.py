"""Export: exact round trips, and no pickle except in the original's format."""

import json
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

import detr_lite
from detr_lite.build import build_model
from detr_lite.config import Config
from detr_lite.data.transforms import MEAN, STD, ResizeRule
from detr_lite.structures import Category, DetrLiteError
from detr_lite.weights import import_checkpoint
from detr_lite.weights.checkpoint import Description, load_model, store_thresholds, write_checkpoint
from detr_lite.weights.export import export_checkpoint
from detr_lite.weights.imports import load_any_checkpoint
from detr_lite.weights.score_thresholds import ScoreThresholds
from tests.helpers.reference_models import OriginalDetr

CATEGORIES = (Category(3, "blue thing"), Category(7, "red thing"))


@pytest.fixture
def best(finished_run: Path) -> Path:
    return finished_run / "checkpoints" / "best.ckpt"


@pytest.fixture
def untrained_checkpoint(tiny_config: Config, tmp_path: Path) -> Callable[..., Path]:
    """A checkpoint of an untrained `detr` with the given settings."""

    def make(**changes: Any) -> Path:
        sizes = {"name": "detr", "backbone": "resnet18", "strides": (32,)}
        config = replace(tiny_config, model=replace(tiny_config.model, **{**sizes, **changes}))
        torch.manual_seed(0)
        description = Description(config, CATEGORIES, ResizeRule("longest", 64), MEAN, STD)
        write_checkpoint(tmp_path / "some.ckpt", build_model(config.model, len(CATEGORIES)), description)
        return tmp_path / "some.ckpt"

    return make


@pytest.mark.parametrize("what", ["folder", "file"])
@pytest.mark.slow
def test_exports_are_loaded_like_checkpoints(best: Path, tmp_path: Path, what: str) -> None:
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
        assert load_any_checkpoint(path).description == description
    image = Image.effect_noise((60, 40), 90).convert("RGB")
    expected_detections, detections = (
        detr_lite.Detector.from_checkpoint(path, "cpu")(image) for path in (best, output)
    )
    assert torch.equal(detections.boxes_xyxy, expected_detections.boxes_xyxy)
    assert torch.equal(detections.scores, expected_detections.scores)


@pytest.mark.slow
def test_thresholds_go_along_where_the_format_has_a_place(
    best: Path, untrained_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_model(best)[1].thresholds is not None
    export_checkpoint(best, tmp_path / "exported")
    assert load_model(tmp_path / "exported")[1].thresholds == load_model(best)[1].thresholds
    assert "score thresholds" not in capsys.readouterr().out
    plain = untrained_checkpoint()
    export_checkpoint(plain, tmp_path / "plain.pth", "official")
    assert "score thresholds" not in capsys.readouterr().out
    store_thresholds(plain, ScoreThresholds(0.375, (0.5, 0.25)))
    export_checkpoint(plain, tmp_path / "known.pth", "official")
    assert "no place for score thresholds; the best one for all classes is 0.375" in capsys.readouterr().out


@pytest.mark.slow
def test_exports_are_plain_files(best: Path, tmp_path: Path) -> None:
    export_checkpoint(best, tmp_path / "mine.safetensors")
    with safe_open(tmp_path / "mine.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == set(load_model(best)[0].state_dict())
    description = json.loads((tmp_path / "mine.json").read_text())["detr_lite"]
    assert description["categories"][0] == {"id": 3, "name": "blue thing"}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "model.json").unlink(), "model.json, which describes the model, is not beside it"),
        (lambda folder: (folder / "model.json").write_text("{"), "not readable as JSON"),
        (lambda folder: (folder / "model.json").write_text("{}"), "not a checkpoint of detr_lite"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"12345678"), "not a safetensors file, or cut off"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no such checkpoint"),
    ],
    ids=["no json", "invalid json", "another json", "no safetensors", "nothing"],
)
def test_incomplete_exports_are_refused(
    best: Path, tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    export_checkpoint(best, tmp_path / "exported")
    damage(tmp_path / "exported")
    with pytest.raises(DetrLiteError, match=reason):
        load_model(tmp_path / "exported")


@pytest.mark.slow
def test_round_trip_of_the_originals_weights(
    original: tuple[OriginalDetr, Namespace], pth: Path, run_tool: Callable[..., Any], tmp_path: Path
) -> None:
    """From the original to detr_lite and back, by the commands."""
    checkpoint, exported = tmp_path / "detr.ckpt", tmp_path / "exported.pth"
    assert run_tool("import_checkpoint", pth, checkpoint).code == 0
    ended = run_tool("export", "--checkpoint", checkpoint, "--output", exported, "--format", "official")
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "the file does not contain DC5 (no) and heads (4)",
        "the class layer has 92 rows, without names of classes; in the original's code set num_classes = 91",
        f"wrote {exported}",
    ]
    content = torch.load(exported, weights_only=True)
    state = original[0].state_dict()
    assert list(content) == ["model"]
    assert content["model"].keys() == state.keys()
    assert all(torch.equal(content["model"][name], value) for name, value in state.items())
    original[0].load_state_dict(content["model"])  # strict, as the original loads it


@pytest.mark.slow
def test_trained_batch_norm_is_exported_without_step_counters(
    untrained_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which the original's frozen batch norm does not have."""
    path = untrained_checkpoint()
    export_checkpoint(path, tmp_path / "some.pth", format="official")
    assert "the class layer has 3 rows, without names" in capsys.readouterr().out
    state = torch.load(tmp_path / "some.pth", weights_only=True)["model"]
    assert not any(name.endswith("num_batches_tracked") for name in state)
    state = import_checkpoint(tmp_path / "some.pth", dc5=False, heads=2).state_dict()
    expected = load_model(path)[0].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "lite"}, "model.name lite with strides [32] is not the original's architecture"),
        ({"strides": (16, 32)}, "model.name detr with strides [16, 32] is not"),
        ({"strides": (16,)}, "model.name detr with strides [16] is not"),
        ({"backbone": "resnet10t"}, "model.backbone resnet10t is not one of the original's, resnet18, resnet34"),
    ],
)
@pytest.mark.slow
def test_other_architectures_cannot_be_exported_in_the_originals_format(
    untrained_checkpoint: Callable[..., Path],
    refusal: Callable[..., str],
    tmp_path: Path,
    changes: dict[str, Any],
    reason: str,
) -> None:
    words = ("--output", tmp_path / "some.pth", "--format", "official")
    message = refusal("export", "--checkpoint", untrained_checkpoint(**changes), *words)
    assert message.startswith(reason)
    assert message.endswith("export safetensors")
    assert not (tmp_path / "some.pth").exists()


def test_existing_files_are_not_replaced_without_overwrite(
    refusal: Callable[..., str], best: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.json").write_text("mine")
    reason = f"{tmp_path / 'model.json'} exists; name another file, or give --overwrite to replace it"
    assert refusal("export", "--checkpoint", best, "--output", tmp_path) == reason
    assert [file.name for file in tmp_path.iterdir()] == ["model.json"]
    export_checkpoint(best, tmp_path, overwrite=True)
    load_model(tmp_path)


def test_wrong_arguments_of_the_export_command(refusal: Callable[..., str], best: Path, tmp_path: Path) -> None:
    assert refusal("export", "--checkpoint", best).startswith("the following arguments are required: --output")
    words = ("--output", tmp_path / "out", "--format", "tensorrt")
    assert "invalid choice: 'tensorrt'" in refusal("export", "--checkpoint", best, *words)
    assert (
        refusal("export", "--checkpoint", "none.ckpt", "--output", tmp_path / "out") == "none.ckpt: no such checkpoint"
    )
    assert not (tmp_path / "out").exists()
