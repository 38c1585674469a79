"""A command of `tools/benchmark.py`, with its description."""

import argparse

from benchmarks import descriptions
from detr_lite.cli.command import CommandParser

Subcommands = argparse._SubParsersAction  # argparse has no public name for it


def subcommand(subcommands: "Subcommands[CommandParser]", name: str, summary: str) -> CommandParser:
    description = getattr(descriptions, name.upper())
    return subcommands.add_parser(name, help=summary, description=description, allow_abbrev=False)
