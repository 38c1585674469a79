"""The command `detr-lite`, which runs one of the commands of this package."""

import difflib
import importlib
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence

from detr_lite import __version__
from detr_lite.cli.command import CommandParser, run_command
from detr_lite.errors import DetrLiteError
from detr_lite.text import command_line

COMMANDS = {
    "train": ("train", "train a detector on a dataset in COCO format"),
    "evaluate": ("evaluate", "measure the COCO metrics of a checkpoint"),
    "predict": ("predict", "detect objects in images"),
    "visualize": ("visualize", "draw the attention behind the detections, or write the explorer page"),
    "report": ("report", "say why a run's results are what they are, as one page with pictures; compare runs"),
    "serve": ("serve", "open a page and an API in which a checkpoint finds objects in pictures"),
    "export": ("export", "write a checkpoint's weights as safetensors, or for the original DETR"),
    "doctor": ("doctor", "look through a dataset for faults, as one page with pictures"),
    "prepare-data": ("prepare_data", "convert, split, merge, count or download datasets"),
    "import": ("import_checkpoint", "convert weights of the original DETR or of transformers to a checkpoint"),
}
"""Name -> module of this package with `main(words)`, and what the command does."""


def main(command: str | None = None) -> None:
    """Run a command on the words of `sys.argv`; without `command`, the first of them names it."""
    words = sys.argv[1:] if command is None else [command, *sys.argv[1:]]
    run_command(lambda: _dispatch(words))


def _dispatch(words: Sequence[str]) -> None:
    program = command_line()
    if not words:
        raise DetrLiteError(f"a command is missing; give one of {', '.join(COMMANDS)}; see {program} --help")
    name, *others = words
    if name.startswith("-"):
        _parser(program).parse_args([name])
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(COMMANDS)}"
        raise DetrLiteError(f"{name} is not a command; {hint}; see {program} --help")
    importlib.import_module(f"detr_lite.cli.{COMMANDS[name][0]}").main(others)


def _parser(program: str) -> CommandParser:
    """Of `--help` and `--version` alone: each command has a parser of its own."""
    parser = CommandParser(
        prog=program,
        usage=f"{program} COMMAND [options]",
        description="A small, readable DETR: train detectors, use them, and look at their attention.",
        epilog="\n".join(
            (
                "commands:",
                *(f"  {name:14}{summary}" for name, (_, summary) in COMMANDS.items()),
                "",
                f"{program} COMMAND --help shows the options of a command.",
            )
        ),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"detr_lite {__version__}")
    return parser
