"""Training from other weights, through the tool: rows go by name, a resumed run needs the other file no more."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detr_lite.training import run
from detr_lite.weights.checkpoint import load_model

pytestmark = pytest.mark.slow

TINY = ("--trainer.max_epochs", 1, "--trainer.num_evaluations", 1)
STILL = ("--optim.lr", 0)
"""Weights stay as they started, so that a checkpoint shows the start; the data are still seen by batch norm."""

NAMES = {3: "Green Thing", 7: "yellow thing", 11: "red thing", 90: "blue thing"}
"""Of new data: those of `tiny_data` under other ids, one written otherwise, and one that is new."""


@pytest.fixture(autouse=True)
def _no_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "finish", lambda *_: None)
    monkeypatch.setattr("detr_lite.training.callbacks.metrics.plot_training_curves", lambda *_: None)


@pytest.fixture
def renamed(edit_annotations: Callable[..., Path]) -> Path:
    def rename(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": id, "name": name} for id, name in NAMES.items()]

    for split in ("train", "val"):
        root = edit_annotations(split, rename)
    return root


@pytest.fixture
def source(run_tool: Callable[..., Any], tiny_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """A checkpoint of a run on `tiny_data`."""

    def make(*words: object) -> Path:
        ended = run_tool("train", "--config", tiny_file, "--run_dir", tmp_path / "source", *TINY, *words)
        assert ended.code == 0, ended.err
        return tmp_path / "source" / "checkpoints" / "last.ckpt"

    return make


def state_of(path: Path) -> dict[str, Tensor]:
    return load_model(path)[0].state_dict()


@pytest.mark.parametrize("name", ["lite", "detr"])
@pytest.mark.stress
def test_a_run_starts_with_the_rows_of_the_classes_that_it_shares(
    run_tool: Callable[..., Any],
    source: Callable[..., Path],
    tiny_file: Path,
    renamed: Path,
    tmp_path: Path,
    name: str,
) -> None:
    path = source("--model.name", name, "--model.freeze_first_stage", "true")
    words = ("--config", tiny_file, "--model.name", name, "--data.root", renamed, "--model.init_from", path)
    ended = run_tool("train", *words, "--model.num_queries", 4, "--run_dir", tmp_path / "new", *TINY, *STILL)
    assert ended.code == 0, ended.err
    for line in (
        f"initial weights: from {path}: ",
        "initial weights: class rows: 3 of 4 by name (Green Thing, red thing, blue thing), 1 new",
        "initial weights: queries: 4 of 4 kept, 2 left out",
        f"training {name} on resnet10t (given weights)",
    ):
        assert line in ended.out
    assert "reset" not in ended.out

    before, after = state_of(path), state_of(tmp_path / "new" / "checkpoints" / "last.ckpt")
    old_rows = {"Green Thing": 2, "red thing": 1, "blue thing": 0}  # by id: blue, red, green
    labels = [key for key in after if "label" in key or "denoising_embed" in key]
    assert len(labels) == (2 if name == "detr" else 7)
    for key in labels:
        for row, category in enumerate(NAMES.values()):
            if category in old_rows:
                assert torch.equal(after[key][row], before[key][old_rows[category]]), key
        if name == "detr":
            assert torch.equal(after[key][-1], before[key][-1]), "background stays background"
    others = [key for key in after if key not in labels and not key.startswith("queries.")]
    for key in others:
        if "running_" not in key and "num_batches" not in key:
            assert torch.equal(after[key], before[key]), key
    queries = "queries.position.weight" if name == "detr" else "queries.content.weight"
    assert torch.equal(after[queries], before[queries][:4])


@pytest.mark.stress
def test_a_resumed_run_and_its_checkpoint_need_the_other_file_no_more(
    run_tool: Callable[..., Any], source: Callable[..., Path], tiny_file: Path, renamed: Path, tmp_path: Path
) -> None:
    path, folder = source(), tmp_path / "new"
    words = ("--data.root", renamed, "--run_dir", folder)
    ended = run_tool("train", "--config", tiny_file, *words, "--model.init_from", path, *TINY)
    assert ended.code == 0, ended.err
    path.unlink()
    longer = ("--resume", "--trainer.max_epochs", 2)
    # By the run's own settings, which name the file, and by those without it.
    for config in (folder / "config.yaml", tiny_file):
        ended = run_tool("train", "--config", config, *words, *longer)
        assert ended.code == 0, ended.err
        assert "initial weights" not in ended.out
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 4
    ended = run_tool("evaluate", "--checkpoint", folder / "checkpoints" / "best.ckpt", "--output", tmp_path / "numbers")
    assert ended.code == 0, ended.err
    assert len(json.loads((tmp_path / "numbers" / "metrics.json").read_text())) == 12


@pytest.mark.stress
def test_a_run_may_replace_the_one_that_it_starts_from(
    run_tool: Callable[..., Any], source: Callable[..., Path], tiny_file: Path
) -> None:
    path = source()
    before = state_of(path)
    folder = path.parents[1]
    words = ("--config", tiny_file, "--run_dir", folder, "--overwrite", "--model.init_from", path)
    assert run_tool("train", *words, *TINY, *STILL).code == 0
    assert torch.equal(state_of(path)["queries.content.weight"], before["queries.content.weight"])


def test_what_is_no_checkpoint_is_refused_before_anything_is_written(
    refusal: Callable[..., str], tiny_file: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.pth"
    text.write_text("no weights")
    torch.save({"model": {"fc.weight": torch.zeros(3, 4)}}, tmp_path / "other.pth")
    for path in (tmp_path / "missing.ckpt", text, tmp_path / "other.pth", tmp_path):
        folder = tmp_path / "run"
        message = refusal("train", "--config", tiny_file, "--run_dir", folder, "--model.init_from", path)
        assert message.startswith(f"--model.init_from: {path}: ")
        assert not folder.exists()


def test_another_width_is_refused(refusal: Callable[..., str], source: Callable[..., Path], tiny_file: Path) -> None:
    path = source()
    message = refusal("train", "--config", tiny_file, "--model.dim", 64, "--model.init_from", path)
    assert f"--model.init_from {path}: nothing in its transformer fits (dim 64 (checkpoint: 32))" in message


@pytest.mark.stress
def test_a_frozen_first_stage_stays_as_it_was(
    run_tool: Callable[..., Any], tiny_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also over a resumed run; its parameters are in the checkpoint, and none are in the optimizer."""
    folder = tmp_path / "run"
    words = ("train", "--config", tiny_file, "--run_dir", folder, "--model.freeze_first_stage", "true")
    ended = run_tool(*words, *TINY, *STILL)
    assert "initial weights: the backbone's first stage is frozen with random weights" in ended.out
    assert "M of them frozen" in ended.out
    last = folder / "checkpoints" / "last.ckpt"
    before = state_of(last)
    assert run_tool(*words, "--overwrite", "--trainer.max_epochs", 1).code == 0
    assert run_tool(*words, "--resume", "--trainer.max_epochs", 2).code == 0
    after = state_of(last)
    still = {key for key, value in after.items() if torch.equal(value, before[key]) and "backbone" in key}
    frozen = {key for key in after if key.startswith(tuple(f"backbone.network.{part}." for part in FIRST))}
    weights = {key for key in after if key.endswith(("weight", "bias")) and "backbone" in key}
    assert still & weights == frozen & weights
    groups = torch.load(last, weights_only=True)["optimizer_states"][0]["param_groups"]
    trained = sum(len(group["params"]) for group in groups)
    model, _ = load_model(last)
    parameters = list(model.parameters())
    assert trained == sum(parameter.requires_grad for parameter in parameters) < len(parameters)


FIRST = ("conv1", "bn1", "layer1")
