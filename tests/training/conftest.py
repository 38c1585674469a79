"""Runs in this process, of a few small steps."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detr_lite.config import Config, Invocation
from detr_lite.training import run
from tests.helpers import ranks


@pytest.fixture
def no_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training alone, without the evaluation and the pictures, which take longer than the few steps."""
    monkeypatch.setattr(run, "finish", lambda *_: None)
    monkeypatch.setattr("detr_lite.training.callbacks.metrics.plot_training_curves", lambda *_: None)


@pytest.fixture
def invocation(tiny_config: Config) -> Callable[..., Invocation]:
    def make(**changes: Any) -> Invocation:
        given = Invocation(tiny_config, config_name="tiny", run_dir=None, resume=None, overwrite=False)
        return replace(given, **changes)

    return make


@pytest.fixture
def start_two(tmp_path: Path) -> Iterator[Callable[..., ranks.Ranks]]:
    """Train in two processes that do not outlive the test."""
    started: list[ranks.Ranks] = []

    def begin(config: Config, folder: Path | None, *prepare: ranks.Prepare, **changes: Any) -> ranks.Ranks:
        invocation = replace(Invocation(config, "tiny", folder, resume=None, overwrite=False), **changes)
        started.append(ranks.start(tmp_path / f"ranks {len(started)}", 2, ranks.train, invocation, prepare))
        return started[-1]

    yield begin
    for each in started:
        each.kill()


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`time.monotonic` as the clock sees it, moved on by hand."""
    now = 1000.0

    def tick(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("detr_lite.training.schedule.time.monotonic", lambda: now)
    return tick
