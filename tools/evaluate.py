"""Evaluate a checkpoint: python tools/evaluate.py --checkpoint runs/coco_small/checkpoints/best.ckpt"""

from pathlib import Path

from detr_lite.cli.command import ToolParser, run_command


def main() -> None:
    parser = ToolParser(
        description="COCO's 12 numbers and AP by class of a checkpoint, written as JSON, CSV and curves.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="a checkpoint, such as RUN/checkpoints/best.ckpt"
    )
    parser.add_argument("--data.root", dest="root", type=Path, help="data set; by default the one trained on")
    parser.add_argument("--split", default="val", help="part of the data set (default: val)")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for the results; by default the run's evaluation folder, whose files are then replaced",
    )
    parser.add_argument("--batch_size", type=int, help="images at a time; by default as in training")
    parser.add_argument(
        "--num_workers", type=int, help="processes that load images; by default one for every two cores"
    )
    parser.add_argument(
        "--attention", action="store_true", help="also measure where the queries look: attention.json, attention.png"
    )
    arguments = parser.parse_args()
    from detr_lite.training.evaluate import evaluate_checkpoint  # slow to import, and --help should not wait

    evaluate_checkpoint(**vars(arguments))


if __name__ == "__main__":
    run_command(main)
