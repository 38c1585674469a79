"""The table of steps a minute, with steps that take no time to compute."""

import re
from collections.abc import Callable

import pytest
import torch

from benchmarks import threads
from benchmarks.threads import busy_program, threads_table, training_step
from detr_lite.config import read_config


def test_each_number_of_threads_is_measured_on_both_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    now, taken, count = 0.0, [], 2

    def step() -> None:
        nonlocal now
        now += 0.6 if count == 1 else 3.6 if taken and taken[-1] else 0.3

    class Busy:
        def __enter__(self) -> None:
            taken.append(True)

        def __exit__(self, *_: object) -> None:
            taken.append(False)

    def set_threads(number: int) -> None:
        nonlocal count
        count = number

    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    monkeypatch.setattr(threads, "busy_program", Busy)
    monkeypatch.setattr(threads, "training_step", lambda config, size: step)
    monkeypatch.setattr(torch, "set_num_threads", set_threads)
    monkeypatch.setattr(threads.time, "monotonic", lambda: now)
    lines = threads_table(minutes=4, window=20).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][1:] == ["as it is: steps a minute", "of the best", "one core taken: steps a minute", "of the best"]
    assert cells[2] == ["1", "100.0", "0.50", "100.0", "1.00"]
    assert cells[3] == ["2", "200.0", "1.00", "16.7", "0.17"]
    assert float(cells[4][2]) >= 0.95
    assert float(cells[4][4]) >= 0.8
    assert re.match("GOMP_SPINCOUNT", lines[-1])


def test_a_step_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config(["--config", "coco_small.yaml", *threads.CHOSEN, "--data.batch_size", "1"]).config
    models: list[torch.nn.Module] = []
    build: Callable[..., torch.nn.Module] = threads.build_model
    monkeypatch.setattr(threads, "build_model", lambda *w, **o: models.append(build(*w, **o)) or models[-1])
    step = training_step(config, 64)
    before = [parameter.detach().clone() for parameter in models[0].parameters()]
    step()
    assert any(not torch.equal(a, b) for a, b in zip(before, models[0].parameters(), strict=True))


def test_the_busy_program_ends() -> None:
    with busy_program():
        pass
