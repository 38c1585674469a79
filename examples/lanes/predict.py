"""Find lanes in pictures: python examples/lanes/predict.py --checkpoint runs/lanes --output lanes PICTURE ..."""

import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

from detr_lite.cli.command import CommandParser, run_command
from detr_lite.io import atomic_write, check_output, result_names
from examples.lanes.answers import answers, draw, load_lane_net


def main() -> None:
    parser = CommandParser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("pictures", nargs="+", type=Path, metavar="PICTURE", help="from a camera that looks ahead, above the hood")
    add("--checkpoint", type=Path, required=True, help="of train.py, or its run folder")
    add("--output", type=Path, required=True, help="folder for the drawings")
    add("--overwrite", action="store_true", help="replace files in that folder")
    given = parser.parse_args()
    check_output(given.output, given.overwrite)
    network = load_lane_net(given.checkpoint)
    given.output.mkdir(parents=True, exist_ok=True)
    names = result_names(given.pictures, ".png")
    for path, name, answer in zip(given.pictures, names, answers(network, given.pictures), strict=True):
        sheet, file = draw(answer), given.output / name.name
        atomic_write(file, functools.partial(sheet.save, format="PNG"), durable=False)
        scores = ", ".join(f"{answer.found.scores[query]:.2f}" for query, _ in answer.lanes())
        print(f"{path}: {len(answer.lanes())} lanes{f' with scores {scores}' if scores else ''}, drawn in {file}")


if __name__ == "__main__":
    run_command(main)
