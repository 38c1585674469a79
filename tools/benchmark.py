"""Measure this project: python tools/benchmark.py oracle, converge, ablate, grid, step or attention"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks/ is not installed

from benchmarks.cli import add_ablate, add_converge, add_grid, add_speed

from detr_lite.cli.command import CommandParser, run_command

ORACLE = """Holds `--model.name detr` against transformers' DetrForObjectDetection: both get the same random numbers in
every weight, batch norm's statistics too, and the same padded batches of random images and objects. Prints a markdown
table of the largest differences, part by part: logits and boxes of each decoder layer (boxes are relative to the
image), and, relative to their size, the loss terms and the gradients of the whole loss in each part's weights. 1e-4 is
the limit that the tests set; rounding in float32 stays below it. Needs transformers (pip install -e '.[dev]'); no
weights are fetched."""


def main() -> None:
    parser = CommandParser(description="Measures, as tables for docs/.", allow_abbrev=False)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    summary = "differences between detr and transformers' DETR"
    oracle = kinds.add_parser("oracle", help=summary, description=ORACLE, allow_abbrev=False)
    oracle.add_argument("--seeds", type=int, default=5, help="sets of weights and batches for each body (default: 5)")
    bodies = "timm's ResNets, with -dc5 for a dilated last stage, by comma (default: resnet18,resnet50)"
    oracle.add_argument("--bodies", default="resnet18,resnet50", help=bodies)
    attention = "theirs: torch's fused one like ours, or the formula, which rounds otherwise (default: sdpa)"
    oracle.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa", help=attention)
    oracle.add_argument("--output", type=Path, metavar="FILE", help="write the table there, too")
    oracle.set_defaults(measure=_oracle)
    add_converge(kinds)
    add_ablate(kinds)
    add_grid(kinds)
    add_speed(kinds)
    arguments = parser.parse_args()
    arguments.measure(arguments)


def _oracle(arguments: argparse.Namespace) -> None:
    from benchmarks.parity import parity_table  # slow to import, and --help should not wait

    table = parity_table(arguments.bodies.split(","), arguments.seeds, arguments.attention)
    print(table)
    if arguments.output is not None:
        arguments.output.write_text(table + "\n")


if __name__ == "__main__":
    run_command(main)
