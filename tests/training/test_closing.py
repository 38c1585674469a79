"""The end of a run: score thresholds in the best checkpoint, and in no checkpoint of weights trained from it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detr_lite.config import Config, Invocation, read_config
from detr_lite.structures import DetrLiteError
from detr_lite.training import closing, run
from detr_lite.weights.checkpoint import KEY, load_model
from detr_lite.weights.score_thresholds import ScoreThresholds


@pytest.fixture
def own_run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may go on with."""
    return shutil.copytree(finished_run, tmp_path / "own_run")


def thresholds_in(checkpoint: Path) -> object:
    return torch.load(checkpoint, weights_only=True)[KEY].get("thresholds")


def test_the_best_checkpoint_has_the_thresholds_of_its_evaluation(finished_run: Path) -> None:
    written = json.loads((finished_run / "evaluation/thresholds.json").read_text())
    thresholds = load_model(finished_run / "checkpoints/best.ckpt")[1].thresholds
    assert thresholds is not None
    assert thresholds.overall == written["score"] > 0
    assert list(thresholds.per_class) == [row["threshold"] for row in written["per_class"]]
    for name in ("last", "previous"):
        assert thresholds_in(finished_run / f"checkpoints/{name}.ckpt") is None


@pytest.mark.stress
@pytest.mark.usefixtures("no_finish")
def test_weights_trained_from_it_do_not_take_them_over(
    own_run: Path, tiny_config: Config, invocation: Callable[..., Invocation], tmp_path: Path
) -> None:
    best = own_run / "checkpoints/best.ckpt"
    known = thresholds_in(best)
    config = read_config(["--config", str(own_run / "config.yaml")]).config
    longer = replace(config, trainer=replace(config.trainer, max_epochs=61, num_evaluations=1))
    new = tmp_path / "new"
    run.train(invocation(config=longer, resume=str(best), run_dir=new))
    for name in ("best", "last", "previous"):
        assert thresholds_in(new / f"checkpoints/{name}.ckpt") is None
    assert thresholds_in(best) == known is not None
    started = replace(tiny_config, model=replace(tiny_config.model, init_from=str(best)))
    started = replace(started, trainer=replace(started.trainer, max_epochs=1, num_evaluations=1))
    run.train(invocation(config=started, run_dir=tmp_path / "started"))
    assert thresholds_in(tmp_path / "started/checkpoints/last.ckpt") is None


def test_a_checkpoint_that_cannot_be_written_is_no_reason_to_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise DetrLiteError("best.ckpt: cannot be written (No space left on device); make room on the disk")

    monkeypatch.setattr(closing, "store_thresholds", fail)
    closing.keep_thresholds(tmp_path / "best.ckpt", ScoreThresholds(0.5, (0.5,)))
    assert "warning: the score thresholds are in evaluation/thresholds.json alone: best.ckpt" in capsys.readouterr().out
