"""Another task than detection in the same engine: resumed runs, signals, numbers that are not finite, and its files."""

import csv
import json
import logging
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from detr_lite.structures import DetrLiteError
from detr_lite.training import task_run
from detr_lite.training.callbacks.metrics import LoggedMetrics
from detr_lite.training.task import TaskSpec, load_network, read_task_checkpoint
from detr_lite.training.task_module import TaskModule
from detr_lite.training.task_run import train_task
from detr_lite.weights.checkpoint import load_model
from tests.helpers.toy_task import build_network, points, toy_invocation, toy_task

COMMAND = "python toy.py"
PROJECT = Path(__file__).resolve().parents[2]


def run(spec: TaskSpec, folder: Path, resume: str | None = None, **trainer: Any) -> dict[str, float]:
    return train_task(spec, toy_invocation(spec, folder, resume, **trainer), COMMAND)


def weights(folder: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_task_checkpoint(folder / "checkpoints" / name, "quadrants")["state_dict"]
    return state


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "minutes"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "run"
    run(toy_task(), folder)
    return folder


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals) -> None:
    """Send this process the signal within a step."""
    original = TaskModule.training_step

    def training_step(self: TaskModule, batch: Any, index: int) -> Any:
        if self.trainer.global_step == step:
            os.kill(os.getpid(), number)
        return original(self, batch, index)

    monkeypatch.setattr(TaskModule, "training_step", training_step)


def test_a_task_learns_and_writes_what_a_run_writes(whole: Path) -> None:
    found = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    assert found == {
        *("config.yaml", "metrics.csv", "curves.png", "evaluation/metrics.json"),
        *(f"checkpoints/{name}.ckpt" for name in ("best", "last", "previous")),
    }
    results = json.loads((whole / "evaluation/metrics.json").read_text())
    assert results["accuracy"] > 0.8
    evaluated = [row for row in rows(whole) if row["accuracy"]]
    assert [int(row["step"]) for row in evaluated] == [10, 20, 30]
    assert max(float(row["accuracy"]) for row in evaluated) == pytest.approx(results["accuracy"])
    assert list(rows(whole)[0]) == ["step", "epoch", "lr", "loss", "loss_class", "loss_size", "accuracy", "errors"]
    config = yaml.safe_load((whole / "config.yaml").read_text())
    assert config["task"] == "quadrants"
    assert config["quadrants"] == {"width": 16}
    assert "model" not in config


def test_the_network_comes_back_from_its_checkpoint(whole: Path) -> None:
    network, settings = load_network(whole / "checkpoints/best.ckpt", "quadrants", build_network)
    assert settings == {"width": 16}
    val = points(64, seed=1)
    with torch.no_grad():
        found = network(torch.stack([point for point, _ in val])).argmax(-1)
    right = float((found == torch.tensor([label for _, label in val])).float().mean())
    assert right == pytest.approx(json.loads((whole / "evaluation/metrics.json").read_text())["accuracy"])


@pytest.mark.parametrize("step", [3, 10, 17])
@pytest.mark.slow
def test_a_stopped_run_that_is_resumed_ends_as_if_it_had_not_been(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: int
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, step, signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            run(toy_task(), folder)
    assert ended.value.code == 128 + signal.SIGTERM
    assert (
        f"stopped after step {step + 1}; resume with: {COMMAND} --run_dir {folder} --resume" in capsys.readouterr().out
    )
    run(toy_task(), folder, "last")
    assert rows(folder) == rows(whole)
    for name in ("last.ckpt", "best.ckpt"):
        expected, found = weights(whole, name), weights(folder, name)
        assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.slow
def test_a_killed_run_continues_from_its_last_checkpoint(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    original = TaskModule.training_step

    def training_step(self: TaskModule, batch: Any, index: int) -> Any:
        if self.trainer.global_step == 13:
            raise Killed
        return original(self, batch, index)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(TaskModule, "training_step", training_step)
        with pytest.raises(Killed):
            run(toy_task(), folder)
    run(toy_task(), folder, "last")
    expected, found = weights(whole), weights(folder)
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert rows(folder) == rows(whole)


def test_a_loss_that_is_not_finite_ends_the_run_before_its_update(tmp_path: Path) -> None:
    train = points(100, seed=0)
    train[37] = (torch.tensor([math.nan, 0.0]), 0)
    with pytest.raises(DetrLiteError) as error:
        run(toy_task(train=train), tmp_path / "run")
    message = str(error.value)
    assert "the loss is not finite (class nan" in message
    named = message.split("samples ")[1].split(";")[0]
    assert "37" in named or "more" in named
    assert "0: 16 of 320 numbers are not finite" in message, "the first layer is where it arises"
    assert "lower --lr than 0.03" in message
    assert all(value.isfinite().all() for value in weights(tmp_path / "run").values())


def test_a_resumed_run_keeps_its_settings(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(DetrLiteError, match="was trained with width 16, not 8; a resumed run keeps it"):
        run(toy_task(width=8), whole, "last", max_epochs=9)
    with pytest.raises(DetrLiteError, match=r"was trained with data\.batch_size 20, not 10"):
        run(toy_task(batch_size=10), whole, "last", max_epochs=9)


def test_a_checkpoint_is_read_by_its_own_task_alone(whole: Path, tmp_path: Path) -> None:
    best = whole / "checkpoints/best.ckpt"
    with pytest.raises(DetrLiteError, match="is not of the task lanes, but of 'quadrants'"):
        read_task_checkpoint(best, "lanes")
    with pytest.raises(DetrLiteError, match="is of the task 'quadrants', not a detector"):
        load_model(best)
    (tmp_path / "x.ckpt").write_bytes(b"abc")
    with pytest.raises(DetrLiteError, match="not a checkpoint, or cut off"):
        read_task_checkpoint(tmp_path / "x.ckpt", "lanes")
    with pytest.raises(DetrLiteError, match="weights do not match its settings"):
        load_network(best, "quadrants", lambda settings: nn.Linear(2, 2))
    with pytest.raises(DetrLiteError, match="its settings are incomplete"):
        load_network(best, "quadrants", lambda settings: build_network({}))


@pytest.mark.stress
def test_the_lowest_value_can_be_the_best(tmp_path: Path) -> None:
    metrics = LoggedMetrics(("errors",), shown=("errors",), mode="min")
    results = run(toy_task(metrics=metrics), tmp_path / "run")
    values = [float(row["errors"]) for row in rows(tmp_path / "run") if row["errors"]]
    assert results["errors"] == min(values) < max(values)


def test_samples_of_similar_size_come_into_a_batch() -> None:
    spec = toy_task(sizes=[(1, 1 + number % 10) for number in range(100)])
    data = task_run.TaskData(spec, 10, 0, seed=0)
    batches = [data.training_batch(0, index, 0, 1).samples for index in range(10)]
    assert sorted(number for batch in batches for number in batch) == list(range(100))
    assert all(len({number % 10 for number in batch}) <= 2 for batch in batches)


def test_nothing_to_train_or_to_evaluate_on_is_refused(tmp_path: Path) -> None:
    for name in ("train", "val"):
        with pytest.raises(DetrLiteError, match="quadrants: there are no samples"):
            run(toy_task(**{name: []}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_replaced_by_accident(whole: Path) -> None:
    with pytest.raises(DetrLiteError, match="holds a run; continue it with --resume or replace it with --overwrite"):
        run(toy_task(), whole)


@pytest.mark.stress
def test_progress_lines_tell_the_tasks_own_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("detr_lite").setLevel(logging.INFO)
    run(toy_task(), tmp_path / "run", max_epochs=None, max_minutes=0.02, num_evaluations=2)
    out = capsys.readouterr().out
    assert "training quadrants: 0.0 M parameters" in out
    assert ": accuracy 0." in out
    assert ", errors " in out
    assert "AP" not in out


SCRIPT = """
import sys
from examples.command import train, training_parser
from tests.helpers.toy_task import toy_task

words = sys.argv[1:]
train(toy_task(), training_parser("Quadrants.", minutes=1.0).parse_args(words), words)
"""


@pytest.mark.stress
def test_two_processes_share_the_samples_and_evaluate_all_of_them(tmp_path: Path) -> None:
    """Metrics that both gathered during training are those of one process afterwards."""
    script, folder = tmp_path / "toy.py", tmp_path / "run"
    script.write_text(SCRIPT)
    words = ["--devices", "2", "--accelerator", "cpu", "--precision", "32-true", "--max_epochs", "4"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), "--run_dir", str(folder), "--num_evaluations", "2", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    evaluated = [float(row["accuracy"]) for row in rows(folder) if row["accuracy"]]
    assert [int(row["step"]) for row in rows(folder) if row["accuracy"]] == [6, 12], "3 batches of 20 for each process"
    assert json.loads((folder / "evaluation/metrics.json").read_text())["accuracy"] == pytest.approx(max(evaluated))
