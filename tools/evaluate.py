"""Evaluate a checkpoint: python tools/evaluate.py --checkpoint runs/coco_small/checkpoints/best.ckpt"""

import argparse
from pathlib import Path

from detr_lite.command import run_command


def main() -> None:
    parser = argparse.ArgumentParser(
        description="COCO's 12 numbers and AP by class of a checkpoint, written as JSON, CSV and curves."
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="a checkpoint, such as RUN/checkpoints/best.ckpt"
    )
    parser.add_argument("--data.root", dest="root", type=Path, help="data set; by default the one trained on")
    parser.add_argument("--split", default="val", help="part of the data set (default: val)")
    parser.add_argument("--output", type=Path, help="folder for the results; by default the run's evaluation folder")
    parser.add_argument("--batch_size", type=int, default=16, help="images at a time (default: 16)")
    parser.add_argument("--workers", type=int, help="processes that load images; by default one for every two cores")
    arguments = parser.parse_args()
    from detr_lite.training.evaluate import evaluate_checkpoint  # slow to import, and --help should not wait

    evaluate_checkpoint(**vars(arguments))


if __name__ == "__main__":
    run_command(main)
