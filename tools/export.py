"""Write a checkpoint's weights for others: python tools/export.py --checkpoint best.ckpt --output exported"""

from pathlib import Path

from detr_lite.cli.command import ToolParser, run_command

DESCRIPTION = """safetensors: OUTPUT is NAME.safetensors, which gets NAME.json beside it with settings, categories,
normalisation and resize rule, or a folder for the two; every tool here takes either as --checkpoint. official: OUTPUT
is a .pth with the key names of the original DETR's repository (models named "detr" alone)."""


def main() -> None:
    parser = ToolParser(description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a checkpoint, such as RUN/checkpoints/best.ckpt")
    add("--output", type=Path, required=True, metavar="PATH", help="file or folder to write")
    add("--format", choices=["safetensors", "official"], default="safetensors", help="default: safetensors")
    add("--overwrite", action="store_true", help="replace what is there under that name")
    arguments = parser.parse_args()
    from detr_lite.weights.export import export_checkpoint  # slow to import, and --help should not wait

    export_checkpoint(**vars(arguments))


if __name__ == "__main__":
    run_command(main)
