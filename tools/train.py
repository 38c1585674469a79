"""Train a detector: python tools/train.py --config coco_small.yaml"""

import sys

from detr_lite.cli.command import run_command
from detr_lite.config import read_config


def main() -> None:
    invocation = read_config(sys.argv[1:])  # before the slow imports, so that a slip is told at once
    from detr_lite.training.run import train

    train(invocation)


if __name__ == "__main__":
    run_command(main)
