"""Runs in processes of their own that meet a fault at a chosen moment. Imported by such a process, too.

A process is forked from one that has imported everything once, so that many of them take little time.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from detr_lite.config import Invocation
from detr_lite.training import run
from detr_lite.training.callbacks import metrics
from detr_lite.training.module import DetectionModule

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["detr_lite.training.run"])

Moment = tuple[str, int, int]
"""What is done, the how-manyth time, and whether the fault comes before (0) or after (1)."""

PLACES: dict[str, tuple[Any, str]] = {
    "training step": (DetectionModule, "training_step"),
    "evaluation step": (DetectionModule, "validation_step"),
    "evaluation": (DetectionModule, "on_validation_epoch_end"),
    "row of the log": (metrics.MetricsFile, "_write"),
    "fsync": (os, "fsync"),
    "replace": (os, "replace"),
    "link": (os, "link"),
}


def start(
    invocation: Invocation, fault: Callable[[], object] | None = None, moment: Moment | None = None
) -> BaseProcess:
    """Train, without the final evaluation, in another process; `fault` is called there at the moment."""
    process = FORKS.Process(target=_train, args=(invocation, fault, moment))
    process.start()
    return process


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _train(invocation: Invocation, fault: Callable[[], object] | None, moment: Moment | None) -> None:
    multiprocessing.set_start_method("fork", force=True)  # for loading processes, as in a program of its own
    run.finish = lambda *_: None  # type: ignore[assignment]
    metrics.plot_training_curves = lambda *_: None  # type: ignore[attr-defined]
    if fault is not None and moment is not None:
        _plant(fault, *moment)
    run.train(invocation)


def _plant(fault: Callable[[], object], what: str, count: int, after: int) -> None:
    owner, name = PLACES[what]
    original, calls, here = getattr(owner, name), 0, os.getpid()

    def counted(*words: Any, **named: Any) -> Any:
        nonlocal calls
        calls += os.getpid() == here  # loading processes are forks of this one
        is_now = calls == count and os.getpid() == here
        if is_now and not after:
            fault()
        result = original(*words, **named)
        if is_now and after:
            fault()
        return result

    setattr(owner, name, counted)
