"""The choice of threads on simulated machines: no step is computed, and no time passes."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import pytest

from detr_lite.structures import DetrLiteError
from detr_lite.training.threads import (
    LONGEST_WAIT,
    ThreadChooser,
    fixed_threads,
    set_fixed_threads,
    thread_candidates,
)

Machine = Callable[[int, float, random.Random], float]
"""(threads, seconds since the start, noise) -> seconds of a step of size 1."""


def idle(cores: int) -> Machine:
    """A tenth of the work is not shared, and more threads than cores gain nothing."""
    return lambda threads, now, noise: 0.06 + 0.54 / min(threads, cores)


def shared(cores: int, slowdown: float) -> Machine:
    """Another program is on one core: a step that needs all cores takes many times as long, now more, now less."""

    def step(threads: int, now: float, noise: random.Random) -> float:
        seconds = idle(cores)(threads, now, noise)
        return seconds if threads < cores else seconds * slowdown * (0.4 + 0.6 * noise.expovariate(1.0))

    return step


def alternating(cores: int, slowdown: float, period: float) -> Machine:
    """The other program comes and goes."""

    def step(threads: int, now: float, noise: random.Random) -> float:
        is_shared = now // period % 2 == 1
        return (shared(cores, slowdown) if is_shared else idle(cores))(threads, now, noise)

    return step


SIZES = (0.8, 1.0, 1.2)
"""Of steps; images differ in shape."""


@dataclass
class Simulated:
    """A run of some minutes."""

    work: float
    used: list[tuple[float, int]]
    """Seconds since the start, and threads of each step."""
    lines: list[str]

    def used_most(self, begin: float, end: float) -> int:
        threads = [threads for now, threads in self.used if begin <= now < end]
        return max(set(threads), key=threads.count)


def simulate(cores: int, machine: Machine, minutes: float = 4, seed: int = 0, spread: float = 0.05) -> Simulated:
    noise, chooser = random.Random(seed), ThreadChooser(cores)
    run, now = Simulated(0.0, [], []), 0.0
    while now < 60 * minutes:
        size, threads = noise.choice(SIZES), chooser.threads
        seconds = size * machine(threads, now, noise) * noise.lognormvariate(0.0, spread)
        run.used.append((now, threads))
        now, run.work = now + seconds, run.work + size
        line = chooser.record(seconds, size)
        run.lines += [line] if line else []
    return run


def share_of_best(cores: int, machine: Machine, minutes: float = 4, spread: float = 0.05) -> float:
    """Work done beside that of the best fixed number of threads, the mean of three runs."""
    noise, draws = random.Random(0), 500
    times = [60 * minutes * draw / draws for draw in range(draws)]
    best = min(fmean(machine(threads, now, noise) for now in times) for threads in thread_candidates(cores))
    return fmean(simulate(cores, machine, minutes, seed, spread).work for seed in range(3)) * best / (60 * minutes)


@pytest.mark.parametrize("cores", [1, 2, 4, 16])
@pytest.mark.parametrize("spread", [0.02, 0.15])
def test_an_idle_machine_loses_less_than_a_twentieth(cores: int, spread: float) -> None:
    assert share_of_best(cores, idle(cores), spread=spread) >= 0.95


@pytest.mark.parametrize("cores", [2, 4, 16])
@pytest.mark.parametrize("slowdown", [1.5, 6.5, 10.0])
def test_a_core_taken_by_another_program_costs_less_than_a_fifth(cores: int, slowdown: float) -> None:
    assert share_of_best(cores, shared(cores, slowdown)) >= 0.8


@pytest.mark.parametrize("slowdown", [2.0, 6.5])
def test_a_program_that_comes_and_goes_is_followed(slowdown: float) -> None:
    machine = alternating(2, slowdown, period=150.0)
    run = simulate(2, machine, minutes=10)
    assert [run.used_most(begin, end) for begin, end in ((30, 150), (180, 300), (400, 450), (480, 600))] == [2, 1, 2, 1]
    assert "now 1 thread of 2" in run.lines[1]
    of_best = fmean(1 / seconds for seconds in (0.33, 0.6))  # half of the time each
    assert run.work / 600 >= 0.8 * of_best


def test_all_cores_are_kept_where_fewer_are_tried_rarely() -> None:
    run = simulate(2, idle(2), minutes=5, spread=0.02)
    others = [now for now, threads in run.used if threads == 1]
    assert 5 <= len(others) <= 30
    assert max(after - now for now, after in pairwise(others)) <= LONGEST_WAIT + 2


def test_the_choice_is_said_once_with_the_times() -> None:
    chooser, lines = ThreadChooser(2), []
    for _ in range(50):
        line = chooser.record(0.6 if chooser.threads == 1 else 0.35, 1.0)
        lines += [line] if line else []
    assert lines == ["chose 2 threads of 2: a step takes 350 ms, with 1 thread 600 ms"]


def test_one_odd_step_changes_nothing() -> None:
    """Such as one during which a checkpoint was written."""
    chooser, used = ThreadChooser(2), []
    for number in range(400):
        used.append(chooser.threads)
        chooser.record((20.0 if number == 100 else 1.0) * (0.6 if chooser.threads == 1 else 0.35), 1.0)
    assert used.count(1) < 40


def test_candidates_cover_the_cores() -> None:
    assert [thread_candidates(cores) for cores in (1, 2, 3, 4, 6, 16)] == [
        (1,),
        (1, 2),
        (1, 2, 3),
        (1, 2, 3, 4),
        (1, 2, 4, 5, 6),
        (1, 2, 4, 8, 12, 15, 16),
    ]


def test_the_setting_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert fixed_threads(None) is None
    assert fixed_threads(3) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert fixed_threads(None) == 2
    assert fixed_threads(3) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(
        DetrLiteError, match=r"OMP_NUM_THREADS=many is no number of threads; unset it, or give --trainer"
    ):
        fixed_threads(None)


def test_more_threads_than_cores_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[int] = []
    monkeypatch.setattr("detr_lite.training.threads.usable_cores", lambda: 2)
    monkeypatch.setattr("detr_lite.training.threads.torch.set_num_threads", given.append)
    set_fixed_threads(2)
    assert not caplog.messages
    set_fixed_threads(5)
    assert given == [2, 5]
    assert caplog.messages == [
        "--trainer.threads 5: there are 2 cores, and more threads than cores wait for each other"
    ]
