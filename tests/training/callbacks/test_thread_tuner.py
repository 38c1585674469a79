"""Threads are set between the steps of a run on the CPU, and nowhere else."""

import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch

from detr_lite.training.callbacks import thread_tuner
from detr_lite.training.callbacks.thread_tuner import ThreadTuner
from detr_lite.training.schedule import TrainingProgress
from tests.helpers.toy_module import Toy, run


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """torch's number of threads on a machine of two cores, without changing it."""
    state = SimpleNamespace(now=2, clock=0.0)
    monkeypatch.setattr(thread_tuner, "usable_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: state.now)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: setattr(state, "now", number))
    monkeypatch.setattr(thread_tuner.time, "monotonic", lambda: state.clock)
    return state


class Timed(Toy):
    """A step takes as long as the number of threads makes it."""

    def __init__(self, state: SimpleNamespace, seconds: Callable[[int], float]) -> None:
        super().__init__(self.advance)
        self.state, self.seconds, self.used = state, seconds, []

    def advance(self, _: float) -> None:
        if self.training:
            self.used.append(self.state.now)
            self.state.clock += self.seconds(self.state.now)


def test_the_faster_number_is_found_and_said(threads: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    module = Timed(threads, lambda number: 3.5 if number == 2 else 0.6)
    run(module, TrainingProgress(8, None, 1), ThreadTuner(None))
    assert module.used[:4] == [2, 2, 2, 2]
    assert module.used[4:30] == [1] * 26
    assert threads.now == 1
    said = [record.message for record in caplog.records if record.name == thread_tuner.logger.name]
    assert said == ["chose 1 thread of 2: a step takes 600 ms, with 2 threads 3,500 ms"]


def test_accumulated_gradients_are_one_step(threads: SimpleNamespace) -> None:
    module = Timed(threads, lambda number: 0.35 if number == 2 else 0.6)
    run(module, TrainingProgress(4, None, 1), ThreadTuner(None), accumulate_grad_batches=5)
    assert module.used == [2] * 20
    run(module, TrainingProgress(5, None, 1), ThreadTuner(None), accumulate_grad_batches=5)
    assert module.used[20:] == [2] * 20 + [1] * 5


def test_a_given_number_stays(threads: SimpleNamespace) -> None:
    module = Timed(threads, lambda number: 3.5 if number == 2 else 0.6)
    run(module, TrainingProgress(4, None, 1), ThreadTuner(2))
    assert set(module.used) == {2}


def test_processes_of_one_machine_share_its_cores(threads: SimpleNamespace) -> None:
    trainer = MagicMock(spec=L.Trainer, num_devices=2, world_size=2)
    ThreadTuner(None).on_train_start(trainer, Toy())
    assert threads.now == 1


def test_elsewhere_than_on_a_cpu_nothing_is_set(threads: SimpleNamespace) -> None:
    trainer, module = MagicMock(spec=L.Trainer, num_devices=1, world_size=1), Toy().to("meta")
    threads.now = 7
    tuner = ThreadTuner(None)
    tuner.on_train_start(trainer, module)
    tuner.on_train_batch_start(trainer, module, None, 0)
    tuner.on_train_batch_end(trainer, module, None, None, 0)
    assert threads.now == 7
