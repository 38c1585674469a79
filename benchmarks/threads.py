"""Steps a minute with each number of threads and with the one that a run chooses, also while a core is taken."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from detr_lite.build import build_criterion, build_model
from detr_lite.config import Config, read_config
from detr_lite.cores import usable_cores
from detr_lite.structures import Batch, Target
from detr_lite.training.threads import ThreadChooser, thread_candidates
from detr_lite.training.trainer import run_optimizer

CLASSES, OBJECTS, QUERIES = 8, 8, 40
CHOSEN = (
    *("--data.image_size", "256", "--data.batch_size", "4", "--model.num_queries", str(QUERIES)),
    *("--optim.optimizer", "muon", "--optim.lr", "1e-3", "--optim.backbone_lr_factor", "1"),
    *("--model.freeze_first_stage", "false"),
)
"""What a run of coco_small.yaml chooses from its data, which are not needed here."""


@dataclass
class Measured:
    """All windows of one way to choose threads, on one kind of machine."""

    choose: Callable[[], int]
    record: Callable[[float], None]
    steps: int = 0
    seconds: float = 0.0

    @property
    def per_minute(self) -> float:
        return 60 * self.steps / self.seconds


def fixed(threads: int) -> Measured:
    return Measured(lambda: threads, lambda seconds: None)


def chosen(cores: int) -> Measured:
    chooser = ThreadChooser(cores)

    def record(seconds: float) -> None:
        line = chooser.record(seconds, 1.0)
        if line is not None:
            print(line, flush=True)

    return Measured(lambda: chooser.threads, record)


def threads_table(minutes: float, window: float, size: int = 256) -> str:
    """Markdown: steps a minute with each number of threads, on the machine as it is and beside a busy program.

    All ways take turns in windows of some seconds, so that what else the machine does is the same for all.

    Args:
        minutes: of each way, on each kind of machine.
        window: seconds.
        size: of the images, in pixels.
    """
    cores = usable_cores()
    step = training_step(read_config(["--config", "coco_small.yaml", *CHOSEN]).config, size)
    names = [*map(str, thread_candidates(cores)), "auto"]
    machines = {
        name: {way: chosen(cores) if way == "auto" else fixed(int(way)) for way in names}
        for name in ("as it is", "one core taken")
    }
    before = torch.get_num_threads()
    try:
        for threads in thread_candidates(cores):  # the first steps select kernels
            torch.set_num_threads(threads)
            step()
        for _ in range(max(1, round(60 * minutes / window))):
            for name, ways in machines.items():
                with busy_program() if name != "as it is" else contextlib.nullcontext():
                    for measured in ways.values():
                        _run(measured, step, window)
    finally:
        torch.set_num_threads(before)
    best = {name: max(ways[way].per_minute for way in names[:-1]) for name, ways in machines.items()}
    lines = [
        f"| threads of {cores} | {' | '.join(f'{name}: steps a minute | of the best' for name in machines)} |",
        "| --- " * 5 + "|",
    ]
    for way in names:
        cells = [
            f"{ways[way].per_minute:.1f} | {ways[way].per_minute / best[name]:.2f}" for name, ways in machines.items()
        ]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"GOMP_SPINCOUNT {os.environ.get('GOMP_SPINCOUNT', 'not set')}"])


def training_step(config: Config, size: int) -> Callable[[], None]:
    """A whole step of a new model on random images of a square size."""
    torch.manual_seed(0)
    model = build_model(config.model, CLASSES, for_checkpoint=True).train()
    criterion, optimizer = build_criterion(config, CLASSES), run_optimizer(model, config.optim, fused=True)
    targets = [
        Target(torch.rand(OBJECTS, 4) * 0.3 + 0.2, torch.randint(0, CLASSES, (OBJECTS,)), index, (size, size))
        for index in range(config.data.batch_size or 1)
    ]
    batch = Batch.from_images([torch.randn(3, size, size) for _ in targets], targets)

    def step() -> None:
        total = criterion(model(batch), targets).total
        optimizer.zero_grad()
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.max_grad_norm)
        optimizer.step()

    return step


@contextlib.contextmanager
def busy_program() -> Iterator[None]:
    """Another process that always computes."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _run(measured: Measured, step: Callable[[], None], seconds: float) -> None:
    """Steps for at least so long."""
    end = time.monotonic() + seconds
    while (begin := time.monotonic()) < end:
        torch.set_num_threads(measured.choose())
        step()
        spent = time.monotonic() - begin
        measured.record(spent)
        measured.steps, measured.seconds = measured.steps + 1, measured.seconds + spent
