"""Processes agree with one message a step, whatever they have to agree on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest

from detr_lite.config import Config
from detr_lite.training import schedule
from detr_lite.training.distributed.control import ControlGroup
from detr_lite.training.module import DetectionModule
from tests.helpers import ranks


@pytest.fixture
def other_rank(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """A group of two, of which the other one sends these numbers; returns the messages of this one."""

    def prepare(group: ControlGroup, *numbers: float) -> list[Any]:
        sent: list[Any] = []

        def reduce(trainer: L.Trainer, *own: float) -> tuple[float, ...]:
            sent.append(own)
            return tuple(map(max, own, numbers))

        monkeypatch.setattr(group, "all_reduce_max", reduce)
        return sent

    return prepare


def test_votes_travel_with_the_message_of_a_step(other_rank: Callable[..., list[Any]]) -> None:
    group, trainer = ControlGroup(), MagicMock(spec=L.Trainer, world_size=2)
    group.votes = lambda: (0, 1)
    sent = other_rank(group, 5.0, 15, 0)
    assert group.exchange(trainer, 7.0) == (7.0,)
    assert group.take_votes(trainer) == (15, 1)
    assert sent == [(7.0, 0, 1)]


def test_votes_are_cast_anew_once_taken_or_discarded(other_rank: Callable[..., list[Any]]) -> None:
    group, trainer = ControlGroup(), MagicMock(spec=L.Trainer, world_size=2)
    group.votes = lambda: (2, 3)
    sent = other_rank(group, 0, 9)
    group.exchange(trainer)
    group.discard_votes()
    assert group.take_votes(trainer) == (2, 9)
    assert group.take_votes(trainer) == (2, 9)
    assert len(sent) == 3


def test_a_single_process_decides_by_what_is_so_at_that_moment() -> None:
    group, trainer = ControlGroup(), MagicMock(spec=L.Trainer, world_size=1)
    group.votes = lambda: (0, 0)
    group.exchange(trainer, 1.0)
    group.votes = lambda: (15, 1)  # a signal, between the end of the step and the checkpoint
    assert group.take_votes(trainer) == (15, 1)


@dataclass(frozen=True)
class CountMessages:
    """Write the number of control messages before each training step into the folder; a step takes a second."""

    folder: Path

    def __call__(self, rank: int) -> None:
        reduce, step, messages = ControlGroup.all_reduce_max, DetectionModule.training_step, 0

        def counted(*words: Any) -> Any:
            nonlocal messages
            messages += 1
            return reduce(*words)

        def noted(*words: Any) -> Any:
            with (self.folder / f"{rank}.txt").open("a") as file:
                file.write(f"{messages}\n")
            return step(*words)

        schedule.time = SimpleNamespace(monotonic=count().__next__)  # type: ignore[attr-defined]
        ControlGroup.all_reduce_max = counted  # type: ignore[method-assign]
        DetectionModule.training_step = noted  # type: ignore[method-assign]


@pytest.mark.stress
@pytest.mark.timeout(60)
@pytest.mark.parametrize("minutes", [None, 0.2])
def test_a_step_of_two_processes_has_one_message(
    start_two: Callable[..., ranks.Ranks], tiny_config: Config, tmp_path: Path, minutes: float | None
) -> None:
    epochs = 3 if minutes is None else None
    config = replace(
        tiny_config,
        data=replace(tiny_config.data, batch_size=1),
        trainer=replace(tiny_config.trainer, devices="auto", max_epochs=epochs, max_minutes=minutes, num_evaluations=1),
    )
    both = start_two(config, tmp_path / "run", CountMessages(tmp_path))
    assert both.codes() == [0, 0], both.err
    for rank in range(2):
        before = [int(line) for line in (tmp_path / f"{rank}.txt").read_text().splitlines()]
        assert len(before) > 4
        assert {after - start for start, after in pairwise(before)} == {1}
