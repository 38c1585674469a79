"""The warnings of a run with too few steps to learn, on a model of one number whose AP50 is given."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from detr_lite.training.checks.diagnostics import LearningRate, TrainingDiagnostics
from detr_lite.training.schedule import TrainingProgress
from tests.helpers.splits import split_of
from tests.helpers.toy_module import Toy, run

NO_IMAGES = split_of([], [], [], [])


class Scored(Toy):
    def __init__(self, AP50: float, tick: Callable[[float], None]) -> None:  # noqa: N803
        super().__init__(tick)
        self.AP50 = AP50

    def on_validation_epoch_end(self) -> None:
        self.log("AP50", torch.tensor(self.AP50))


def diagnostics(progress: TrainingProgress) -> TrainingDiagnostics:
    return TrainingDiagnostics(progress, NO_IMAGES, LearningRate(0.1, default=0.1), warmup_steps=0)


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]


@pytest.mark.parametrize(("minutes", "words"), [(1.0, "at this pace the run has about 60 steps in 1 min"), (5.0, None)])
def test_minutes_that_hold_few_steps(minutes: float, words: str | None, fake_time, capsys) -> None:
    """A step takes a second."""
    progress = TrainingProgress(max_epochs=None, max_minutes=minutes, num_evaluations=1)
    trainer = run(Scored(0.5, fake_time), progress, diagnostics(progress))
    assert trainer.global_step == 60 * minutes
    warned = warnings(capsys)
    assert len(warned) == (words is not None)
    assert all(line.startswith(str(words)) for line in warned)
    assert all("--trainer.max_minutes" in line and "--data.image_size" in line for line in warned)


def test_epochs_are_the_users_own_choice(fake_time, capsys) -> None:
    progress = TrainingProgress(max_epochs=8, max_minutes=None, num_evaluations=1)
    assert run(Scored(0.5, fake_time), progress, diagnostics(progress)).global_step == 40
    assert warnings(capsys) == []


def test_a_resumed_run_warns_once_and_counts_its_own_steps(fake_time, capsys, tmp_path: Path) -> None:
    def train(minutes: float, resume: Path | None = None):
        progress = TrainingProgress(max_epochs=None, max_minutes=minutes, num_evaluations=1)
        return run(Scored(0.5, fake_time), progress, diagnostics(progress), resume=resume)

    train(0.25).save_checkpoint(tmp_path / "short.ckpt")
    assert warnings(capsys) == []  # over before the pace is known
    train(1.0, resume=tmp_path / "short.ckpt").save_checkpoint(tmp_path / "longer.ckpt")
    assert len(warnings(capsys)) == 1
    train(2.0, resume=tmp_path / "longer.ckpt")
    assert warnings(capsys) == []


@pytest.mark.parametrize(
    ("AP50", "epochs", "is_warned"),
    [(0.0, 4, True), (0.009, 4, True), (0.02, 4, False), (-1.0, 4, False), (0.0, 100, False)],
)
def test_a_short_run_that_ends_with_nothing(AP50: float, epochs: int, is_warned: bool, fake_time, capsys) -> None:  # noqa: N803
    """After more steps the number of steps is not the cause."""
    progress = TrainingProgress(max_epochs=epochs, max_minutes=None, num_evaluations=2)
    run(Scored(AP50, fake_time), progress, diagnostics(progress))
    warned = warnings(capsys)
    assert len(warned) == is_warned  # not after the first evaluation, too
    assert all(line.startswith("AP is close to 0 after 20 steps") for line in warned)
    assert all(line.endswith("--trainer.max_epochs") for line in warned)
