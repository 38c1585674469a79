"""`detr-lite evaluate`: the COCO metrics of a checkpoint."""

from collections.abc import Sequence
from pathlib import Path

from detr_lite.cli.command import CHECKPOINT_HELP, NMS_HELP, OVERLAP_HELP, TILE_HELP, CommandParser
from detr_lite.text import command_line
from detr_lite.weights.checkpoint_path import find_checkpoint

DESCRIPTION = """Prints the 12 COCO metrics of a checkpoint and AP by class, and writes them as metrics.json and
per_class.csv, with detections.json (COCO results format) and pr_curves.png. Of several checkpoints each is evaluated so
on the same data, into a folder of its own, and one table compares them: AP, parameters and images a second
(comparison.json, comparison.md)."""

OUTPUT_HELP = """folder for the results, whose files are replaced (default: RUN/evaluation; of a detector of
transformers runs/NAME/evaluation, with -- for / in its name; of several checkpoints runs/comparison, which gets a
number if it is there)"""


def main(words: Sequence[str]) -> None:
    parser = CommandParser(prog=command_line("evaluate"), description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add(
        "--checkpoint",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        metavar="CHECKPOINT",
        help=f"{CHECKPOINT_HELP}; several are compared in one table",
    )
    add(
        "--data.root",
        dest="root",
        type=Path,
        help="the dataset, in any format that can be trained on (default: the one of training; a detector of "
        "transformers has none)",
    )
    add("--split", default="val", help="split of the dataset (default: val)")
    add("--output", type=Path, help=OUTPUT_HELP)
    add("--batch_size", type=int, help="images per batch (default: as in training)")
    add("--num_workers", type=int, help="data loading processes (default: one per two cores, at most 8)")
    add("--nms", type=float, metavar="IOU", help=NMS_HELP)
    add("--tile", type=int, metavar="PIXELS", help=TILE_HELP)
    add("--overlap", type=float, default=0.2, metavar="SHARE", help=OVERLAP_HELP)
    add(
        "--iou",
        type=float,
        nargs="+",
        default=(),
        metavar="IOU",
        help="also AP at these IoU thresholds, for datasets whose papers use others than COCO's, such as 0.33",
    )
    add("--attention", action="store_true", help="also measure the attention: attention.json, attention.png")
    add(
        "--attribution",
        type=int,
        metavar="OBJECTS",
        help="also measure on so many objects, such as 20, what their scores depend on, and whether attention shows "
        "it: attribution.json, attribution.png; takes about 350 forward passes for each",
    )
    add(
        "--engine",
        choices=("hotcoco", "pycocotools"),
        default="hotcoco",
        help="what computes the metrics: hotcoco (default), or the reference that it equals, about 100 times slower",
    )
    options = vars(parser.parse_args(words))
    checkpoints = options.pop("checkpoint")
    for checkpoint in checkpoints:
        find_checkpoint(checkpoint)
    # These import torch, as nothing above does.
    if len(checkpoints) == 1:
        from detr_lite.training.evaluate import evaluate_checkpoint

        evaluate_checkpoint(checkpoints[0], **options)
    else:
        from detr_lite.training.compare import compare_checkpoints
        from detr_lite.training.evaluation_options import EvaluationOptions

        output = options.pop("output")
        compare_checkpoints(checkpoints, EvaluationOptions(**options), output)
