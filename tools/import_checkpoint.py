"""Make a checkpoint of other people's weights: python tools/import_checkpoint.py detr-r50.pth detr-r50.ckpt"""

from pathlib import Path

from detr_lite.cli.command import ToolParser, run_command

DESCRIPTION = """Reads the original DETR's .pth, a DETR of transformers (its folder, or the file of weights in it) or a
checkpoint of detr_lite, and writes a checkpoint that every tool here takes. What kind it is, is recognised and printed.
No code in the file is run."""


def main() -> None:
    parser = ToolParser(description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="the weights: a file, or a folder")
    add("output", type=Path, metavar="OUTPUT.ckpt", help="the checkpoint to write")
    add("--dc5", action="store_const", const=True, help="the last stage is dilated (DC5), if the file does not say it")
    add("--heads", type=int, metavar="N", help="attention heads, if the file does not say them (default: 8)")
    add("--overwrite", action="store_true", help="replace OUTPUT")
    arguments = parser.parse_args()
    from detr_lite.weights.imports import convert_checkpoint  # slow to import, and --help should not wait

    convert_checkpoint(**vars(arguments))


if __name__ == "__main__":
    run_command(main)
