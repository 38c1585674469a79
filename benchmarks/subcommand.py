"""A command of `tools/benchmark.py`, with its description."""

import argparse

from benchmarks import descriptions
from detr_lite.cli.command import CommandParser
from detr_lite.errors import DetrLiteError

Subcommands = argparse._SubParsersAction  # argparse has no public name for it


def subcommand(subcommands: "Subcommands[CommandParser]", name: str, summary: str) -> CommandParser:
    description = getattr(descriptions, name.upper())
    return subcommands.add_parser(name, help=summary, description=description, allow_abbrev=False)


def check_steps(steps: int) -> None:
    """Errors: none at all."""
    if steps < 1:
        raise DetrLiteError(f"--steps is {steps}; it must be at least 1")


def split(text: str) -> list[str]:
    """The parts of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]
