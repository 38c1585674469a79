"""`detr-lite export`: a checkpoint's weights for other programs."""

from collections.abc import Sequence
from pathlib import Path

from detr_lite.cli.command import CHECKPOINT_HELP, CommandParser
from detr_lite.errors import DetrLiteError
from detr_lite.text import command_line
from detr_lite.weights.checkpoint_path import find_checkpoint

DESCRIPTION = """onnx: OUTPUT is a folder with model.onnx (uint8 RGB images of any size in; boxes, scores and labels
out), model.json (classes, resizing, score thresholds) and detect.py, which runs it with numpy, Pillow and onnxruntime
alone. safetensors: OUTPUT is NAME.safetensors, with NAME.json (settings, categories, normalization, resizing)
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
        choices=["onnx", "safetensors", "transformers", "official"],
        default="safetensors",
        help="default: safetensors",
    )
    add("--overwrite", action="store_true", help="replace existing files")
    measured = "of onnx: also write {} and print what it costs in AP and gains in time"
    add("--half", action="store_true", help=measured.format("model_half.onnx (float16)"))
    add("--int8", action="store_true", help=measured.format("model_int8.onnx (8 bits, calibrated on training images)"))
    add(
        "--data.root",
        dest="root",
        type=Path,
        help="the dataset for --half and --int8 (default: the one of training)",
    )
    options = vars(parser.parse_args(words))
    format, half, int8, root = (options.pop(name) for name in ("format", "half", "int8", "root"))
    find_checkpoint(options["checkpoint"])
    # These import torch, which --help need not wait for.
    if format == "onnx":
        from detr_lite.cli.export_onnx import export_onnx

        export_onnx(**options, half=half, int8=int8, root=root)
        return
    if half or int8 or root is not None:
        raise DetrLiteError(f"--half, --int8 and --data.root are of --format onnx, not of {format}")
    from detr_lite.weights.export import export_checkpoint

    export_checkpoint(**options, format=format)
