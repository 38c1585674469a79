"""Train a captioner on drawn scenes: python examples/captions/train.py"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

from detr_lite.cli.command import run_command
from detr_lite.structures import DetrLiteError
from examples.captions.model import Captioner
from examples.captions.results import write_results
from examples.captions.scenes import Scenes
from examples.captions.task import NAME, captions_task
from examples.command import check_folder, train, training_parser

logger = logging.getLogger("detr_lite.examples")


def main(words: Sequence[str]) -> None:
    parser = training_parser("Trains a model that describes drawn scenes, with the engine of detection.", minutes=10.0)
    add = parser.add_argument
    add("--detector", type=Path, help="a trained detector to start backbone and encoder from; by default random")
    add("--train_scenes", type=int, default=100_000, help="each drawn when it is its turn (default: %(default)s)")
    add("--val_scenes", type=int, default=300, help="for the evaluations during training (default: %(default)s)")
    add("--test_scenes", type=int, default=1000, help="for the numbers at the end (default: %(default)s)")
    given = parser.parse_args(words)
    if min(given.train_scenes, given.val_scenes, given.test_scenes) < 1:
        raise DetrLiteError("--train_scenes, --val_scenes and --test_scenes must be at least 1")
    check_folder(NAME, given)

    def finish(captioner: Captioner, folder: Path) -> None:
        results = write_results(captioner, folder, Scenes("test", given.test_scenes))
        logger.info(f"unseen scenes:\n{results.table()}")

    spec = captions_task(Scenes("train", given.train_scenes), Scenes("val", given.val_scenes), given.detector, finish)
    train(spec, given, words)


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
