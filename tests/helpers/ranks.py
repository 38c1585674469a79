"""Processes of one run, as torchrun starts them, but forked from one that has imported everything: they start at once.

Imported by these processes, too.
"""

import contextlib
import multiprocessing
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed as dist

from detr_lite.cli.command import configure_logging, run_command
from detr_lite.config import Invocation
from detr_lite.training import run
from detr_lite.training.callbacks import metrics
from detr_lite.training.distributed import launch as launching
from detr_lite.training.module import DetectionModule
from tests.helpers import fault_injection
from tests.helpers.waiting import PATIENCE

Prepare = Callable[[int], object]
"""Called in a process, with its rank, before it trains."""
FINISH = run.finish


@dataclass
class Ranks:
    """Processes that may still be running."""

    processes: list[BaseProcess]
    outputs: list[tuple[Path, Path]]

    def codes(self, seconds: float = PATIENCE) -> list[int | None]:
        """Exit codes; None for one that does not end in time, and is killed."""
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.0, end - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        self.kill()
        return codes

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    @property
    def out(self) -> list[str]:
        return [out.read_text() for out, _ in self.outputs]

    @property
    def err(self) -> list[str]:
        return [err.read_text() for _, err in self.outputs]


def start(place: Path, world_size: int, function: Callable[..., object], *words: Any) -> Ranks:
    """Call the function with these words in each process; what they print goes to files in `place`."""
    place.mkdir(parents=True, exist_ok=True)
    outputs = [(place / f"{rank}.out", place / f"{rank}.err") for rank in range(world_size)]
    for path in (path for pair in outputs for path in pair):
        path.touch()
    port = _free_port()
    started = [
        fault_injection.FORKS.Process(target=enter, args=(rank, world_size, port, outputs[rank], function, words))
        for rank in range(world_size)
    ]
    for process in started:
        process.start()
    return Ranks(started, outputs)


def train(invocation: Invocation, prepare: Sequence[Prepare] = ()) -> None:
    """As tools/train.py, without the evaluation and the pictures at the end."""
    multiprocessing.set_start_method("fork", force=True)  # for loading processes, as in a program of its own
    run.finish = lambda *_: None  # type: ignore[assignment]
    metrics.plot_training_curves = lambda *_: None  # type: ignore[attr-defined]
    for each in prepare:
        each(rank_zero_only.rank)
    run_command(lambda: _train_as_the_command(invocation))


def _train_as_the_command(invocation: Invocation) -> None:
    configure_logging(rank_0_only=True)
    run.train(invocation)


@dataclass(frozen=True)
class InStep:
    """Do something in the nth training step of one rank."""

    rank: int
    step: int
    action: Callable[[], object]

    def __call__(self, rank: int) -> None:
        if rank != self.rank:
            return
        original, calls = DetectionModule.training_step, 0

        def counted(*words: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == self.step:
                self.action()
            return original(*words)

        DetectionModule.training_step = counted  # type: ignore[method-assign]


def do_finish(rank: int) -> None:
    """The evaluation and the pictures at the end, which `train` leaves out."""
    run.finish = FINISH  # type: ignore[assignment]


def be_terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def lose_patience(rank: int) -> None:
    """Nobody will come to end these processes."""
    launching.NOTICE = launching.STARTUP = 1.0


def join() -> None:
    """The processes' group, for those that do not train."""
    dist.init_process_group("gloo")


def enter(
    rank: int, world_size: int, port: int, outputs: tuple[Path, Path], function: Callable[..., object], words: Any
) -> None:
    """Be that rank, and call the function."""
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="test",
    )
    rank_zero_only.rank = rank  # known since this was imported
    torch.set_num_threads(1)
    function(*words)


def _free_port() -> int:
    """A port that is still free when rank 0 opens it: systems give those from 32768 on to whoever asks for any."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as door, contextlib.suppress(OSError):
            door.bind(("127.0.0.1", port))
            return port
