"""`detr-lite export`: a checkpoint's weights for other programs."""

from collections.abc import Sequence
from pathlib import Path

from detr_lite.cli.command import CHECKPOINT_HELP, CommandParser
from detr_lite.text import command_line

DESCRIPTION = """safetensors: OUTPUT is NAME.safetensors, with NAME.json (settings, categories, normalization, resizing)
beside it, or a folder for the two; every command takes either as --checkpoint. transformers: OUTPUT is a folder that
from_pretrained reads (only for models that were fine-tuned from one of transformers). official: OUTPUT is a .pth with
the parameter names of the original DETR (only for models named "detr")."""


def main(words: Sequence[str]) -> None:
    parser = CommandParser(prog=command_line("export"), description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help=CHECKPOINT_HELP)
    add("--output", type=Path, required=True, metavar="PATH", help="file or folder to write")
    add(
        "--format",
        choices=["safetensors", "transformers", "official"],
        default="safetensors",
        help="default: safetensors",
    )
    add("--overwrite", action="store_true", help="replace existing files")
    arguments = parser.parse_args(words)
    from detr_lite.weights.export import export_checkpoint  # imports torch, which --help need not wait for

    export_checkpoint(**vars(arguments))
