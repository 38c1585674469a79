"""The subcommands of `tools/benchmark.py` about processes: how they share work, and how they start."""

import argparse

from detr_lite.cli.command import CommandParser
from detr_lite.errors import DetrLiteError

BALANCE = """Deals the batches of an epoch of random images with about COCO's sizes to several processes, and compares
the padded pixels of the slowest process in each step with the mean of all: with the batches of a single process in
turn, and as training deals them. Prints a markdown table; nothing is computed with the images."""

START = """Calls commands that only show their help or refuse something, each in a new process, and prints the least
processor time of several calls as a markdown table, with that of imports alone."""


def add_balance(subcommands: "argparse._SubParsersAction[CommandParser]") -> None:
    summary = "pixels of the slowest of several processes"
    balance = subcommands.add_parser("balance", help=summary, description=BALANCE, allow_abbrev=False)
    balance.add_argument("--images", type=int, default=20_000, help="(default: 20000)")
    balance.add_argument("--processes", type=int, default=8, help="(default: 8)")
    balance.set_defaults(run=_run_balance)


def _run_balance(arguments: argparse.Namespace) -> None:
    from benchmarks.balance import CASES, balance_table

    least = max(batch_size for _, _, batch_size in CASES) * max(1, arguments.processes)
    if arguments.processes < 1 or arguments.images < least:
        raise DetrLiteError(f"--images {arguments.images} is not enough for --processes {arguments.processes}")
    print(balance_table(arguments.images, arguments.processes))


def add_start(subcommands: "argparse._SubParsersAction[CommandParser]") -> None:
    summary = "time until a command shows its help or refuses something"
    start = subcommands.add_parser("start", help=summary, description=START, allow_abbrev=False)
    start.add_argument("--repeats", type=int, default=5, help="calls of each, of which the fastest counts (default: 5)")
    start.set_defaults(run=_run_start)


def _run_start(arguments: argparse.Namespace) -> None:
    from benchmarks.start import start_table

    if arguments.repeats < 1:
        raise DetrLiteError(f"--repeats is {arguments.repeats}; it must be at least 1")
    print(start_table(arguments.repeats))
