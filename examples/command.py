"""The command line that all examples share: where a run is written, how long it lasts, and how it is resumed."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from detr_lite.cli.command import CommandParser, configure_logging
from detr_lite.config import Config, DataConfig, Invocation, TrainerConfig
from detr_lite.structures import DetrLiteError
from detr_lite.training.before_torch import check_before_torch
from detr_lite.training.task import TaskSpec
from detr_lite.training.task_run import train_task

PER_CALL = ("--run_dir", "--resume", "--overwrite")
"""Options that a resumed run is given anew."""


def training_parser(description: str, minutes: float) -> CommandParser:
    """A parser with the options of every training, to which an example adds its own."""
    parser = CommandParser(description=description, allow_abbrev=False)
    add = parser.add_argument
    add("--run_dir", type=Path, help="run folder; by default runs/TASK, or the next free runs/TASK-2")
    add("--resume", nargs="?", const="last", help="continue the run in RUN_DIR, or from this checkpoint")
    add("--overwrite", action="store_true", help="replace the run in RUN_DIR")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--max_minutes", type=float, default=minutes, help="minutes of training (default: %(default)s)")
    length.add_argument("--max_epochs", type=int, help="epochs of training, in place of minutes")
    add("--num_evaluations", type=int, default=10, help="spread evenly over the run (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of weights, order of the samples and augmentation (default: 0)")
    add("--batch_size", type=int, help="samples in a step, on each device")
    add("--num_workers", type=int, default=0, help="processes that load samples (default: 0)")
    add("--lr", type=float, help="learning rate")
    add("--max_grad_norm", type=float, help="clip gradients to this norm; 0 for no clipping")
    add("--threads", type=int, help="CPU threads of a step; by default the fastest number")
    add("--accelerator", default="auto", help="auto, cpu, gpu or mps (default: auto)")
    add("--devices", default="auto", help='devices, or "auto" for all (default: auto)')
    add("--precision", choices=("auto", "32-true", "bf16-mixed", "16-mixed"), default="auto")
    add("--logger", choices=("none", "tensorboard", "wandb"), default="none", help="beside metrics.csv")
    return parser


def check_folder(name: str, given: argparse.Namespace) -> None:
    """Refuse a run folder that is taken before anything slow is done; `train` does so in any case.

    Errors: those of `check_before_torch`.
    """
    check_before_torch(_invocation(name, given, Config()))


def train(spec: TaskSpec, given: argparse.Namespace, words: Sequence[str]) -> dict[str, float]:
    """Train a task as its command line says.

    Args:
        given: what a parser of `training_parser` has read.
        words: of the command line, for the one that a stopped run is resumed with.

    Errors: those of `train_task`, and options that exclude each other.
    """
    configure_logging(rank_0_only=True)
    if given.resume is not None and given.overwrite:
        raise DetrLiteError("give --resume or --overwrite, not both")
    devices = int(given.devices) if str(given.devices).isdecimal() else given.devices
    changes = {name: value for name in ("lr", "max_grad_norm") if (value := getattr(given, name)) is not None}
    config = Config(
        data=DataConfig(
            batch_size=spec.batch_size if given.batch_size is None else given.batch_size, num_workers=given.num_workers
        ),
        optim=replace(spec.optim, **changes),
        trainer=TrainerConfig(
            max_epochs=given.max_epochs,
            max_minutes=None if given.max_epochs is not None else given.max_minutes,
            num_evaluations=given.num_evaluations,
            logger=given.logger,
            accelerator=given.accelerator,
            devices=devices,
            precision=given.precision,
            threads=given.threads,
        ),
        seed=given.seed,
    )
    return train_task(spec, _invocation(spec.name, given, config), resume_command(words))


def resume_command(words: Sequence[str]) -> str:
    """How this program was called, without the options of `PER_CALL`."""
    kept: list[str] = []
    is_value = False
    for word in words:
        name = word.split("=")[0]
        if word.startswith("--"):
            is_value = name in ("--run_dir", "--resume") and "=" not in word
            if name not in PER_CALL:
                kept.append(word)
        elif not is_value:
            kept.append(word)
        else:
            is_value = False
    return shlex.join(["python", sys.argv[0], *kept])


def _invocation(name: str, given: argparse.Namespace, config: Config) -> Invocation:
    return Invocation(config, name, given.run_dir, given.resume, given.overwrite)
