"""Runs in this process, of a few small steps."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from detr_lite.config import Config, Invocation
from detr_lite.training import run


@pytest.fixture
def no_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training alone, without the evaluation and the pictures, which take longer than the few steps."""
    monkeypatch.setattr(run, "finish", lambda *_: None)
    monkeypatch.setattr("detr_lite.training.callbacks.plot_training_curves", lambda *_: None)


@pytest.fixture
def invocation(tiny_config: Config) -> Callable[..., Invocation]:
    def make(**changes: Any) -> Invocation:
        given = Invocation(tiny_config, config_name="tiny", run_dir=None, resume=None, overwrite=False)
        return replace(given, **changes)

    return make
