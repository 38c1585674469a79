"""When a run stops early, what it logs, and how it is resumed, on a model of one number whose AP is given."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from detr_lite.training.checks.diagnostics import EarlyStopping
from detr_lite.training.lightning_internals import NEVER
from detr_lite.training.schedule import TrainingProgress


class Toy(L.LightningModule):
    """Each evaluation gives the next AP."""

    def __init__(self, ap: Sequence[float], evaluated: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.ap = ap
        self.evaluated = evaluated

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return (self.weight - batch[0]).square().mean()

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self.log("AP", torch.tensor(self.ap[self.evaluated], dtype=torch.float64))
        self.evaluated += 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def run(
    module: Toy, patience: int, folder: Path, num_evaluations: int = 6, batches: int = 2, resume: bool = False
) -> L.Trainer:
    """Six epochs of `batches` batches each."""
    progress = TrainingProgress(max_epochs=6, max_minutes=None, num_evaluations=num_evaluations)
    values = DataLoader(TensorDataset(torch.ones(batches, 1)))
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=6,
        val_check_interval=NEVER,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[progress, EarlyStopping("AP", patience, progress), last],
    )
    path = folder / "last.ckpt" if resume else None
    trainer.fit(module, values, DataLoader(TensorDataset(torch.ones(1, 1))), ckpt_path=path, weights_only=True)
    return trainer


@pytest.mark.parametrize(
    ("ap", "patience", "num_evaluations"),
    [
        ([0.1, 0.2, 0.2, 0.1, 0.3, 0.4], 2, 4),
        ([0.1, 0.2, 0.2, 0.3, 0.3, 0.4], 2, 6),
        ([0.0, 0.0, 0.1, 0.2, 0.3, 0.4], 1, 2),
        ([-1.0, -1.0, -1.0, -1.0, -1.0, -1.0], 3, 4),
        ([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], 6, 6),
    ],
)
def test_so_many_evaluations_without_a_rise_end_the_run(
    ap: list[float], patience: int, num_evaluations: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = Toy(ap)
    assert run(module, patience, tmp_path).global_step == 2 * num_evaluations
    assert module.evaluated == num_evaluations
    said = capsys.readouterr().out
    assert ("stopped early" in said) == (num_evaluations < 6)
    if num_evaluations < 6:
        times = f"{patience} evaluations in a row have" if patience > 1 else "1 evaluation has"
        best = max(ap[:num_evaluations])
        assert f"stopped early: {times} not raised the best AP, {best:.3f} (--trainer.patience {patience})\n" in said


def test_the_end_of_the_run_is_no_early_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(Toy([0.5] * 6), 5, tmp_path).global_step == 12
    assert "stopped" not in capsys.readouterr().out


def test_a_stopped_run_that_is_resumed_trains_no_further(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(Toy([0.5] * 6), 2, tmp_path)
    module = Toy([0.9] * 6)
    assert run(module, 2, tmp_path, resume=True).global_step == 6
    assert module.evaluated == 0
    assert capsys.readouterr().out.count("stopped early") == 1


def test_with_more_patience_it_goes_on(tmp_path: Path) -> None:
    ap = [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    run(Toy(ap), 2, tmp_path)
    module = Toy(ap, evaluated=3)
    assert run(module, 4, tmp_path, resume=True).global_step == 10
    assert module.evaluated == 5


def test_what_was_seen_before_a_break_counts(tmp_path: Path) -> None:
    class Break(Toy):
        def on_train_epoch_start(self) -> None:
            if self.trainer.current_epoch == 3:
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run(Break([0.1, 0.5, 0.4]), 2, tmp_path)
    module = Toy([0.45, 0.6])
    assert run(module, 2, tmp_path, resume=True).global_step == 8
    assert module.evaluated == 1


def test_stopped_in_the_middle_of_an_epoch_it_can_go_on_to_the_end(tmp_path: Path) -> None:
    ap = [0.4, 0.5, 0.4, *[0.6 + step / 100 for step in range(9)]]
    assert run(Toy(ap), 1, tmp_path, num_evaluations=12, batches=4).global_step == 6
    module = Toy(ap, evaluated=3)
    trainer = run(module, 2, tmp_path, num_evaluations=12, batches=4, resume=True)
    # The second half of the epoch that was left is not made up for, nor is the evaluation at its end.
    assert trainer.global_step == 22
    assert module.evaluated == 11


@pytest.mark.stress
def test_the_tool_stops_early_and_ends_as_ever(run_tool: Callable[..., Any], tiny_file: Path, tmp_path: Path) -> None:
    words = ("--trainer.max_epochs", 8, "--trainer.num_evaluations", 8, "--trainer.patience", 2, "--optim.lr", 0)
    ended = run_tool("train", "--config", tiny_file, "--run_dir", tmp_path / "run", *words)
    assert ended.code == 0, ended.err
    assert "stopped early: 2 evaluations in a row have not raised the best AP" in ended.out
    assert ended.out.count("AP50 0.") == 3
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 6
    assert len(json.loads((tmp_path / "run/evaluation/metrics.json").read_text())) == 12
    assert (tmp_path / "run/attention.png").exists()
