"""What a run writes while it goes, with a stand-in for the trainer."""

import csv
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch

from detr_lite.evaluation.coco_map import METRICS
from detr_lite.training.callbacks.metrics import LoggedMetrics, MetricsFile, ProgressReporter
from detr_lite.training.schedule import TrainingProgress

MODULE = MagicMock(spec=L.LightningModule)
LOSSES = {"loss": 3.5, "loss_class": 1.0, "loss_l1": 0.5}


@pytest.fixture
def progress() -> TrainingProgress:
    progress = TrainingProgress(max_epochs=2, max_minutes=None, num_evaluations=2)
    progress.fraction, progress.seconds = 0.25, 30.0
    return progress


def trainer_at(step: int, epoch: int = 0, **metrics: float) -> Any:
    values = {name: torch.tensor(value) for name, value in {**LOSSES, **metrics}.items()}
    trainer = MagicMock(spec=L.Trainer)  # which passes for one where types are checked
    trainer.global_step = step
    trainer.current_epoch = epoch
    trainer.callback_metrics = values
    trainer.optimizers = [SimpleNamespace(param_groups=[{"lr": 0.001}, {"lr": 0.01}])]
    trainer.is_global_zero = True
    return trainer


def evaluated(step: int, ap: float, epoch: int = 0) -> Any:
    return trainer_at(step, epoch, **dict.fromkeys(METRICS, ap))


def step_to(callback: Any, trainer: Any) -> None:
    callback.on_train_batch_end(trainer, MODULE, None, None, 0)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_losses_every_few_steps_and_metrics_in_rows_of_their_own(tmp_path: Path, progress: TrainingProgress) -> None:
    file = MetricsFile(tmp_path / "metrics.csv", progress, every_steps=10)
    file.on_train_start(trainer_at(0), MODULE)
    for step in range(1, 21):
        step_to(file, trainer_at(step))
    file.on_validation_end(evaluated(20, 0.25), MODULE)
    rows = rows_of(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == ["1", "10", "20", "20"]
    assert [row["loss"] for row in rows] == ["3.5", "3.5", "3.5", ""]
    assert [row["AP"] for row in rows] == ["", "", "", "0.25"]
    assert list(rows[0]) == ["step", "epoch", "minutes", "lr", *LOSSES, *METRICS]
    assert (rows[0]["minutes"], rows[0]["lr"]) == ("0.5", "0.01")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_a_step_of_several_batches_is_logged_once(tmp_path: Path, progress: TrainingProgress) -> None:
    file = MetricsFile(tmp_path / "metrics.csv", progress, every_steps=2)
    file.on_train_start(trainer_at(0), MODULE)
    for step in (0, 1, 1, 2, 2, 3, 3, 4):
        step_to(file, trainer_at(step))
    assert [row["step"] for row in rows_of(tmp_path / "metrics.csv")] == ["1", "2", "4"]


def test_a_resumed_run_goes_on_in_the_file_and_repeats_no_row(tmp_path: Path, progress: TrainingProgress) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsFile(path, progress, every_steps=2)
    first.on_train_start(trainer_at(0), MODULE)
    for step in range(1, 7):
        step_to(first, trainer_at(step))
        if step == 4:
            saved = first.state_dict()
    with path.open("a") as file:
        file.write("7,0,0.")  # killed while it wrote
    again = MetricsFile(path, progress, every_steps=2)
    again.load_state_dict(saved)
    again.on_train_start(trainer_at(4), MODULE)  # what came after step 4 is done again
    step_to(again, trainer_at(4))  # a batch whose gradients are accumulated
    for step in range(5, 9):
        step_to(again, trainer_at(step, loss=1.0))
    assert [(row["step"], row["loss"]) for row in rows_of(path)] == [
        ("1", "3.5"), ("2", "3.5"), ("4", "3.5"), ("6", "1.0"), ("8", "1.0")]  # fmt: skip


def test_a_checkpoint_that_does_not_count_rows_keeps_all_whole_ones(tmp_path: Path, progress: TrainingProgress) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n1,3\n2,2\n3,")
    MetricsFile(path, progress).on_train_start(trainer_at(2), MODULE)
    assert path.read_text() == "step,loss\n1,3\n2,2\n"


def test_a_new_run_does_not_go_on_in_an_old_file(tmp_path: Path, progress: TrainingProgress) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,other\n5,1\n")
    file = MetricsFile(path, progress, every_steps=1)
    file.on_train_start(trainer_at(0), MODULE)
    step_to(file, trainer_at(1))
    assert [row["step"] for row in rows_of(path)] == ["1"]


def test_without_a_terminal_the_progress_is_plain_lines(
    progress: TrainingProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = ProgressReporter(progress, line_seconds=1000.0)
    reporter.on_train_start(trainer_at(0), MODULE)
    for step in range(1, 50):
        step_to(reporter, trainer_at(step))
    reporter.on_validation_start(trainer_at(50), MODULE)
    reporter.on_validation_end(evaluated(50, 0.25), MODULE)
    reporter.on_train_end(trainer_at(50), MODULE)
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        " 25%  epoch 0 step 1  loss 3.50 (class 1.00 l1 0.50)  1:30 left",
        "0:30  step 50: AP 0.250, AP50 0.250",
    ]
    assert err == ""


def test_lines_tell_the_last_and_the_best_ap(progress: TrainingProgress, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = ProgressReporter(progress, line_seconds=0.0)
    reporter.on_train_start(trainer_at(0), MODULE)
    reporter.on_validation_end(evaluated(1, 0.5), MODULE)
    reporter.on_validation_end(evaluated(2, 0.25), MODULE)
    step_to(reporter, trainer_at(3))
    assert "AP 0.250 (best 0.500)" in capsys.readouterr().out.splitlines()[-1]
    resumed = ProgressReporter(progress, line_seconds=0.0)
    resumed.load_state_dict(reporter.state_dict())
    resumed.on_train_start(trainer_at(3), MODULE)
    step_to(resumed, trainer_at(4))
    assert "AP 0.250 (best 0.500)" in capsys.readouterr().out


def test_on_a_terminal_there_is_one_bar(
    progress: TrainingProgress, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = ProgressReporter(progress)
    reporter.is_terminal = True
    reporter.on_train_start(trainer_at(0), MODULE)
    step_to(reporter, trainer_at(1))
    reporter.on_validation_start(trainer_at(1), MODULE)
    reporter.on_validation_end(evaluated(1, 0.25), MODULE)
    progress.fraction = 1.0
    reporter.on_train_end(trainer_at(2), MODULE)
    out, err = capsys.readouterr()
    assert out.splitlines() == ["0:30  step 1: AP 0.250, AP50 0.250"]
    last = err.split("\r")[-1]
    assert last.startswith("100% |")
    assert "step 2" in last
    assert "AP 0.250 (best 0.250)" in last


def evaluate_batches(reporter: ProgressReporter, trainer: Any, count: int) -> None:
    trainer.num_val_batches = [count]
    reporter.on_validation_start(trainer, MODULE)
    for index in range(count):
        reporter.on_validation_batch_end(trainer, MODULE, None, None, index, 0)
    reporter.on_validation_epoch_end(trainer, MODULE)


def test_only_a_long_evaluation_has_lines(
    progress: TrainingProgress, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch takes ten seconds."""
    now = 0.0

    def tick() -> float:
        nonlocal now
        now += 5.0
        return now

    monkeypatch.setattr("detr_lite.training.callbacks.metrics.time.monotonic", tick)
    reporter = ProgressReporter(progress, line_seconds=1000.0)
    evaluate_batches(reporter, trainer_at(1), 50)
    assert capsys.readouterr() == ("", "")
    evaluate_batches(reporter, trainer_at(1), 1500)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1500 * 5 // 1005
    assert lines[0] == " 25%  evaluating: batch 200 of 1,500"
    reporter.disable()
    other = trainer_at(1)
    other.is_global_zero = False
    for each, by in ((reporter, trainer_at(1)), (ProgressReporter(progress, line_seconds=0.0), other)):
        evaluate_batches(each, by, 500)
    assert capsys.readouterr() == ("", "")


def test_an_evaluation_moves_the_bar_of_a_terminal(
    progress: TrainingProgress, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = ProgressReporter(progress)
    reporter.is_terminal = True
    reporter.on_train_start(trainer_at(0), MODULE)
    monkeypatch.setattr("detr_lite.training.callbacks.metrics.time.monotonic", count(0.0).__next__)
    evaluate_batches(reporter, trainer_at(1), 3)
    out, err = capsys.readouterr()
    assert out == ""
    shown = [part.split("| ")[-1].strip() for part in err.split("\r")]
    expected = [
        "evaluating",
        *(f"evaluating: batch {number} of 3" for number in (1, 2, 3)),
        "evaluating: comparing the predictions with the ground truth",
    ]
    assert [text for text in shown if "evaluating" in text] == expected
    reporter.on_train_end(trainer_at(1), MODULE)


def test_ap_without_cocos_limit_and_no_ap_at_all_are_told(
    progress: TrainingProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter = ProgressReporter(progress, line_seconds=0.0)
    crowded = trainer_at(2, **dict.fromkeys(METRICS, 0.25), APmax=0.875)
    reporter.on_validation_end(crowded, MODULE)
    assert capsys.readouterr().out == "0:30  step 2: AP 0.250, AP50 0.250, APmax 0.875\n"
    empty = ProgressReporter(progress, line_seconds=0.0)
    empty.on_validation_end(evaluated(2, -1.0), MODULE)
    step_to(empty, trainer_at(3))
    out = capsys.readouterr().out
    assert "step 2: no AP without objects" in out
    assert "best" not in out


def test_only_the_first_rank_speaks(progress: TrainingProgress, capsys: pytest.CaptureFixture[str]) -> None:
    reporter = ProgressReporter(progress, line_seconds=0.0)
    other = trainer_at(1)
    other.is_global_zero = False
    reporter.on_train_start(other, MODULE)
    step_to(reporter, other)
    other_evaluated = evaluated(1, 0.5)
    other_evaluated.is_global_zero = False
    reporter.on_validation_end(other_evaluated, MODULE)
    reporter.disable()
    step_to(reporter, trainer_at(2))
    assert capsys.readouterr() == ("", "")
    assert reporter.best == 0.5  # and all know the same
    reporter.enable()
    step_to(reporter, trainer_at(3))
    assert "step 3" in capsys.readouterr().out


def test_only_the_first_rank_writes(
    tmp_path: Path, progress: TrainingProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning.pytorch.utilities.rank_zero_only.rank", 1)
    file = MetricsFile(tmp_path / "metrics.csv", progress, every_steps=1)
    file.on_train_start(trainer_at(0), MODULE)
    step_to(file, trainer_at(1))
    file.on_validation_end(evaluated(1, 0.5), MODULE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["loss", "loss_class", "lr", "step"])
def test_a_metric_named_as_another_column_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="another column"):
        LoggedMetrics((name,), shown=(name,))


def test_what_is_shown_must_be_a_metric() -> None:
    with pytest.raises(ValueError, match="it must be one or more of"):
        LoggedMetrics(("F1",), shown=("AP",))
