"""`detr-lite import`: other projects' weights as a checkpoint."""

from collections.abc import Sequence
from pathlib import Path

from detr_lite.cli.command import CommandParser
from detr_lite.text import command_line
from detr_lite.weights.checkpoint_path import refuse_missing
from detr_lite.weights.files import check_new_checkpoint

DESCRIPTION = """Reads a .pth of the original DETR, a DETR of transformers (its folder, or the file of weights in it) or
a checkpoint of detr_lite, and writes a checkpoint that every command takes. The kind is detected and printed. No code
in the file is run."""


def main(words: Sequence[str]) -> None:
    parser = CommandParser(prog=command_line("import"), description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="the weights: a file or a folder")
    add("output", type=Path, metavar="OUTPUT.ckpt", help="checkpoint to write")
    add("--dc5", action="store_const", const=True, help="the last stage is dilated (DC5), if the file does not say so")
    add("--heads", type=int, metavar="N", help="attention heads, if the file does not say (default: 8)")
    add("--overwrite", action="store_true", help="replace OUTPUT.ckpt")
    arguments = parser.parse_args(words)
    check_new_checkpoint(arguments.output, arguments.overwrite)
    refuse_missing(arguments.source)
    from detr_lite.weights.imports import convert_checkpoint  # imports torch, which --help need not wait for

    convert_checkpoint(**vars(arguments))
