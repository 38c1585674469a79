"""`detr-lite report`: why a run's results are what they are, as one page; or several runs compared."""

from collections.abc import Sequence
from pathlib import Path

from detr_lite.cli.command import CommandParser
from detr_lite.errors import DetrLiteError
from detr_lite.text import command_line

DESCRIPTION = """Writes one HTML page, which needs no network, about the results of a run: what costs AP (errors by
kind, as in TIDE), the confusion matrix, which score threshold to use, calibration, the worst images with ground truth
beside detections, labels that are likely wrong, the metrics of each class, and the curves and settings of the run. With
several RESULTS, a page that compares them: metrics side by side with confidence intervals of the differences, class by
class, and pictures of what one finds and another misses. Everything is computed from files; no model is run."""


def main(words: Sequence[str]) -> None:
    parser = CommandParser(prog=command_line("report"), description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add(
        "results",
        type=Path,
        nargs="+",
        metavar="RESULTS",
        help="a run folder; an evaluation folder or its metrics.json; or any file in COCO's results format",
    )
    add(
        "--truth",
        type=Path,
        metavar="DATA",
        help="the evaluated dataset, its folder or annotation file (default: as the evaluation has recorded)",
    )
    add("--split", help="split of that dataset (default: as recorded, or val)")
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (default: report.html in the run folder, or comparison.html here)",
    )
    add(
        "--samples",
        type=int,
        default=1000,
        help="resamplings of the images for confidence intervals of differences (default: 1000)",
    )
    options = parser.parse_args(words)
    if options.samples < 100:
        raise DetrLiteError(f"--samples is {options.samples}; it must be at least 100")
    from detr_lite.training.report import write_comparison, write_report  # import torch, as --help does not

    if len(options.results) == 1:
        write_report(options.results[0], options.output, options.truth, options.split)
    else:
        output = options.output or Path("comparison.html")
        write_comparison(options.results, output, options.truth, options.split, options.samples)
