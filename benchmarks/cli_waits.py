"""`waits` and `long_run`: what cannot be seen on a CPU or in a short run."""

import argparse

from benchmarks.subcommand import Subcommands, subcommand
from detr_lite.cli.command import CommandParser
from detr_lite.structures import DetrLiteError


def add_waits(subcommands: "Subcommands[CommandParser]") -> None:
    waits = subcommand(subcommands, "waits", "what a step waits for on a GPU, and what processes send")
    waits.add_argument("--config", default="coco_small.yaml", help="settings (default: coco_small.yaml)")
    waits.set_defaults(run=_run_waits)


def add_long_run(subcommands: "Subcommands[CommandParser]") -> None:
    long_run = subcommand(subcommands, "long_run", "how far biases of attention walk in a long run")
    long_run.add_argument("--steps", type=int, default=100_000, help="(default: 100000)")
    long_run.set_defaults(run=_run_long_run)


def _run_waits(arguments: argparse.Namespace) -> None:
    from benchmarks.waits import waits_table
    from detr_lite.config import read_config

    print(waits_table(read_config(["--config", arguments.config]).config))


def _run_long_run(arguments: argparse.Namespace) -> None:
    from benchmarks.long_run import long_run_table

    if arguments.steps < 1:
        raise DetrLiteError(f"--steps is {arguments.steps}; it must be at least 1")
    print(long_run_table(arguments.steps))
