"""What a run with too few steps to learn says, on a model of one number whose AP50 is given."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy import Toy, run

from detr_lite.training.checks.pace import PaceNotes
from detr_lite.training.schedule import TrainingProgress


class Scored(Toy):
    def __init__(self, AP50: float, tick: Callable[[float], None]) -> None:  # noqa: N803
        super().__init__(tick)
        self.AP50 = AP50

    def on_validation_epoch_end(self) -> None:
        self.log("AP50", torch.tensor(self.AP50))


def notes(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix("note       ") for line in lines if line.startswith("note")]


@pytest.mark.parametrize(
    ("minutes", "words"), [(1.0, "at this pace the run has about 60 steps in its 1 min"), (3.0, None)]
)
def test_minutes_that_hold_few_steps(minutes: float, words: str | None, fake_time, capsys) -> None:
    """A step takes a second."""
    progress = TrainingProgress(max_epochs=None, max_minutes=minutes, num_evaluations=1)
    trainer = run(Scored(0.5, fake_time), progress, PaceNotes(progress))
    assert trainer.global_step == 60 * minutes
    said = notes(capsys)
    assert len(said) == (words is not None)
    if words is not None:
        assert said[0].startswith(words)
        assert "--trainer.max_minutes" in said[0]
        assert "--data.image_size" in said[0]


def test_epochs_are_the_users_own_choice(fake_time, capsys) -> None:
    progress = TrainingProgress(max_epochs=8, max_minutes=None, num_evaluations=1)
    assert run(Scored(0.5, fake_time), progress, PaceNotes(progress)).global_step == 40
    assert notes(capsys) == []


def test_a_run_that_goes_on_says_it_once_and_counts_its_own_steps(fake_time, capsys, tmp_path: Path) -> None:
    def go(minutes: float, resume: Path | None = None):
        progress = TrainingProgress(max_epochs=None, max_minutes=minutes, num_evaluations=1)
        return run(Scored(0.5, fake_time), progress, PaceNotes(progress), resume=resume)

    go(0.25).save_checkpoint(tmp_path / "short.ckpt")
    assert notes(capsys) == []  # over before the pace is known
    go(1.0, resume=tmp_path / "short.ckpt").save_checkpoint(tmp_path / "longer.ckpt")
    assert len(notes(capsys)) == 1
    go(2.0, resume=tmp_path / "longer.ckpt")
    assert notes(capsys) == []


@pytest.mark.parametrize(
    ("AP50", "epochs", "is_said"),
    [(0.0, 4, True), (0.009, 4, True), (0.02, 4, False), (-1.0, 4, False), (0.0, 100, False)],
)
def test_a_short_run_that_ends_with_nothing(AP50: float, epochs: int, is_said: bool, fake_time, capsys) -> None:  # noqa: N803
    """After more steps it is no longer the steps."""
    progress = TrainingProgress(max_epochs=epochs, max_minutes=None, num_evaluations=2)
    run(Scored(AP50, fake_time), progress, PaceNotes(progress))
    said = notes(capsys)
    assert len(said) == is_said  # not after the first evaluation, too
    if is_said:
        assert said[0].startswith("AP is next to 0 after 20 steps")
        assert said[0].endswith("--trainer.max_epochs")
