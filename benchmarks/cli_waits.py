"""`waits` and `long_run`: what cannot be seen on a CPU or in a short run; `film` and `frames`, of the explorer."""

import argparse
from pathlib import Path

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


def add_film(subcommands: "Subcommands[CommandParser]") -> None:
    film = subcommand(subcommands, "film", "a short film of an explorer page, as in the README")
    film.add_argument("--page", type=Path, required=True, help="written by visualize --explore")
    film.add_argument("--output", type=Path, required=True, metavar="FILE.webp", help="the film; replaced if it exists")
    film.add_argument("--image", type=int, default=0, metavar="N", help="which one, counted from 0 (default: 0)")
    film.set_defaults(run=_run_film)


def add_frames(subcommands: "Subcommands[CommandParser]") -> None:
    frames = subcommand(subcommands, "frames", "how fluid an explorer page is, in each kind of use")
    frames.add_argument("--page", type=Path, help="written by visualize --explore (default: one made for this)")
    for name, default in (("images", 50), ("queries", 300), ("classes", 80)):
        frames.add_argument(f"--{name}", type=int, default=default, help=f"of the page made (default: {default})")
    frames.set_defaults(run=_run_frames)


def _run_waits(arguments: argparse.Namespace) -> None:
    from benchmarks.waits import waits_table
    from detr_lite.config import read_config

    print(waits_table(read_config(["--config", arguments.config]).config))


def _run_long_run(arguments: argparse.Namespace) -> None:
    from benchmarks.long_run import long_run_table

    if arguments.steps < 1:
        raise DetrLiteError(f"--steps is {arguments.steps}; it must be at least 1")
    print(long_run_table(arguments.steps))


def _run_film(arguments: argparse.Namespace) -> None:
    from benchmarks.explorer_film import record_film

    if not arguments.page.is_file():
        raise DetrLiteError(f"{arguments.page}: no such page")
    size = record_film(arguments.page, arguments.output, arguments.image)
    print(f"wrote {arguments.output}: {size / 1e6:.2f} MB")


def _run_frames(arguments: argparse.Namespace) -> None:
    from benchmarks.explorer_frames import frames_table

    if arguments.page is not None and not arguments.page.is_file():
        raise DetrLiteError(f"{arguments.page}: no such page")
    print(frames_table(arguments.page, arguments.images, arguments.queries, arguments.classes))
