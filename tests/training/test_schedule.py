"""Progress, evaluations, end and learning rates of a run, on a model with one parameter."""

import math
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch

from detr_lite.training.distributed.control import ControlGroup
from detr_lite.training.optim import lr_factor
from detr_lite.training.schedule import LRSchedule, StepSeed, TrainingProgress
from tests.helpers.toy_module import BATCHES, Toy, run


@pytest.mark.parametrize(
    ("num_evaluations", "expected"),
    [(1, [10]), (2, [5, 10]), (3, [4, 7, 10]), (4, [3, 5, 8, 10]), (100, list(range(1, 11)))],
)
def test_evaluations_are_spread_evenly_and_the_last_is_at_the_end(num_evaluations: int, expected: list[int]) -> None:
    module = Toy()
    run(module, TrainingProgress(max_epochs=2, max_minutes=None, num_evaluations=num_evaluations))
    assert module.evaluated_at == expected


def test_progress_of_a_run_in_epochs() -> None:
    seen = []

    class Watch(L.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            seen.append(progress.fraction)

    progress = TrainingProgress(max_epochs=2, max_minutes=None, num_evaluations=1)
    assert not progress.is_over
    assert progress.seconds_left == math.inf
    run(Toy(), progress, Watch())
    assert seen == pytest.approx([step / 10 for step in range(1, 11)])
    assert progress.is_over
    assert progress.seconds_left == 0


@pytest.mark.parametrize(("seconds", "steps"), [(7.0, 7), (7.5, 7), (12.0, 12), (0.5, 1), (0.0, 1)])
def test_a_time_limit_ends_the_run_before_the_step_that_would_exceed_it(fake_time, seconds: float, steps: int) -> None:
    module, progress = Toy(fake_time), TrainingProgress(max_epochs=None, max_minutes=seconds / 60, num_evaluations=3)
    trainer = run(module, progress)
    assert trainer.global_step == steps
    assert progress.is_over
    assert module.evaluated_at[-1] == steps


def test_the_clock_is_paused_during_evaluations_and_drawing(fake_time) -> None:
    class Draws(L.Callback):
        def on_validation_end(self, *args: Any) -> None:
            fake_time(50)

    module, progress = Toy(fake_time), TrainingProgress(max_epochs=None, max_minutes=10 / 60, num_evaluations=5)
    trainer = run(module, progress, Draws())
    assert len(module.evaluated_at) == 5
    assert trainer.global_step == 10
    assert progress.seconds == 10


def test_time_left_comes_from_the_pace_or_from_the_limit(fake_time) -> None:
    left = []

    class Watch(L.Callback):
        def __init__(self, progress: TrainingProgress) -> None:
            self.progress = progress

        def on_train_batch_end(self, *args: Any) -> None:
            left.append(self.progress.seconds_left)

    epochs = TrainingProgress(max_epochs=1, max_minutes=None, num_evaluations=1)
    run(Toy(fake_time), epochs, Watch(epochs))
    assert left == pytest.approx([4, 3, 2, 1, 0])
    left.clear()
    minutes = TrainingProgress(max_epochs=None, max_minutes=3 / 60, num_evaluations=1)
    run(Toy(fake_time), minutes, Watch(minutes))
    assert left == pytest.approx([2, 1, 0])


def test_time_is_saved_and_a_resumed_run_has_only_the_rest(fake_time, tmp_path: Path) -> None:
    saved = tmp_path / "saved.ckpt"

    class Interrupt(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            trainer.save_checkpoint(saved)
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        run(Toy(fake_time), TrainingProgress(None, max_minutes=12 / 60, num_evaluations=3), Interrupt())
    module, progress = Toy(fake_time), TrainingProgress(None, max_minutes=12 / 60, num_evaluations=3)
    trainer = run(module, progress, resume=saved)
    assert trainer.global_step == 12
    assert module.evaluated_at == [8, 12]  # the one at 4 was before
    assert progress.seconds == 12


def test_a_finished_run_that_is_resumed_trains_no_further(fake_time, tmp_path: Path) -> None:
    progress = TrainingProgress(None, max_minutes=4 / 60, num_evaluations=1)
    run(Toy(fake_time), progress).save_checkpoint(tmp_path / "saved.ckpt")
    module = Toy(fake_time)
    trainer = run(module, TrainingProgress(None, max_minutes=4 / 60, num_evaluations=1), resume=tmp_path / "saved.ckpt")
    assert trainer.global_step == 4
    assert module.rates == []


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_rates_follow_the_schedule_before_each_step(schedule: str) -> None:
    factor = partial(lr_factor, schedule=schedule, lr_hold=0.3, warmup_steps=3)
    module, progress = Toy(), TrainingProgress(max_epochs=2, max_minutes=None, num_evaluations=1)
    run(module, progress, LRSchedule(progress, factor))
    assert module.rates == [[pytest.approx(0.5 * factor(step / 10, step))] for step in range(10)]


def test_accumulated_batches_count_as_one_step() -> None:
    factor = partial(lr_factor, schedule="constant", lr_hold=1.0, warmup_steps=4)
    module, progress = Toy(), TrainingProgress(max_epochs=2, max_minutes=None, num_evaluations=2)
    trainer = run(module, progress, LRSchedule(progress, factor), accumulate_grad_batches=2)
    assert trainer.global_step == 6  # of two batches, of two, and the epoch's last alone
    assert module.evaluated_at == [3, 6]
    steps_done = [0, 0, 1, 1, 2, 3, 3, 4, 4, 5]
    assert [rates[0] for rates in module.rates] == pytest.approx([0.5 * min(1, (n + 1) / 4) for n in steps_done])


def test_random_numbers_of_a_step_do_not_depend_on_what_came_before(tmp_path: Path) -> None:
    first = Toy()
    run(first, TrainingProgress(max_epochs=2, max_minutes=None, num_evaluations=1), StepSeed(3))
    torch.rand(17)
    again = Toy()
    run(again, TrainingProgress(max_epochs=1, max_minutes=None, num_evaluations=1), StepSeed(3))
    other = Toy()
    run(other, TrainingProgress(max_epochs=1, max_minutes=None, num_evaluations=1), StepSeed(4))
    assert again.draws == first.draws[:BATCHES]
    assert len(set(first.draws + other.draws)) == 3 * BATCHES  # epochs and seeds differ


def test_all_ranks_use_the_clock_of_rank_0() -> None:
    """Or one rank would end while another waits for it."""
    trainer = MagicMock(spec=L.Trainer)
    trainer.world_size, trainer.global_step, trainer.should_stop = 2, 0, False
    trainer.is_global_zero = False
    none = SimpleNamespace(current=SimpleNamespace(started=0, processed=0))
    trainer.fit_loop = SimpleNamespace(epoch_progress=none, epoch_loop=SimpleNamespace(batch_progress=none))
    control_group = ControlGroup()
    control_group.all_reduce_max = lambda _, *own: tuple(map(max, own, (30.0, 1.0)))
    progress = TrainingProgress(max_epochs=None, max_minutes=1.0, num_evaluations=1, control_group=control_group)
    progress.seconds = 50.0
    progress.on_train_start(trainer, MagicMock(spec=L.LightningModule))
    assert (progress.seconds, progress.fraction) == (30.0, 0.5)


def test_the_clock_counts_real_seconds() -> None:
    progress = TrainingProgress(max_epochs=1, max_minutes=None, num_evaluations=1)
    run(Toy(lambda seconds: time.sleep(0.02)), progress)
    assert progress.seconds >= 5 * 0.02
