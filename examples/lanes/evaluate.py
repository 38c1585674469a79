"""Measure lanes and attention on unseen roads: python examples/lanes/evaluate.py --checkpoint runs/lanes"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

import numpy as np
import torch

from detr_lite.cli.command import CommandParser, configure_logging, run_command
from detr_lite.io import atomic_write
from detr_lite.text import text_table
from detr_lite.viz.explorer.other_tasks import Line, pack_lines
from detr_lite.viz.explorer.page import explorer_page
from examples.lanes.answers import Answer, answers, load_lane_net
from examples.lanes.attention import along_lane, lane_points
from examples.lanes.baseline import mean_lanes
from examples.lanes.data import INPUT, points_of
from examples.lanes.evaluation import THRESHOLD, score_lanes
from examples.lanes.prepare import LEVELS, splits_of
from examples.lanes.tusimple import Labeled, write_results

EXPLORED = 8
"""Pictures in the explorer's page."""


def explore(labeled: Sequence[Labeled], found: Sequence[Answer], page: Path) -> None:
    """A page in which each lane of some pictures can be chosen, with what its query attends to."""
    scenes = []
    for label, answer in zip(labeled, found, strict=True):
        queries = range(len(answer.found.scores))
        lines = [(query, lane_points(answer.found.seen_lane(query))) for query in queries]
        drawn = [
            Line(torch.tensor(points), float(answer.found.scores[query]), 0, query)
            for query, points in lines
            if len(points) >= 2
        ]
        xs, is_seen = points_of(label, answer.size)
        true = [lane_points(np.where(seen, lane * INPUT[0], np.nan)) for lane, seen in zip(xs, is_seen, strict=True)]
        truth = [Line(torch.tensor(points), 1.0, 0, 0) for points in true]
        scenes.append(pack_lines(label.raw_file, answer.picture, drawn, answer.maps, truth, class_names=["lane"]))
    text = explorer_page(scenes, ["lane"], threshold=THRESHOLD)
    atomic_write(page, lambda file: file.write(text.encode()))


def main() -> None:
    parser = CommandParser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="of train.py, or its run folder")
    add("--level", choices=tuple(LEVELS), default="middle", help="of the drawn roads (default: middle)")
    add("--root", type=Path, help="folder of TuSimple, or of data in its format, in place of drawn roads")
    add("--roads", type=int, default=4000, help="drawn roads of training, beside which the unseen ones are")
    add("--results", type=Path, help="write the lanes as TuSimple's evaluation reads them, one JSON object in a line")
    add("--explore", type=Path, metavar="PAGE", help="write a page in which lanes and attention can be looked at")
    given = parser.parse_args()
    configure_logging()
    network = load_lane_net(given.checkpoint)
    train, labeled = splits_of(given.root, given.level, given.roads)
    start, found = time.perf_counter(), list(answers(network, [label.path for label in labeled]))
    run_ms = 1000 * (time.perf_counter() - start) / len(found)
    scores = score_lanes([answer.found for answer in found], labeled)
    baseline = score_lanes([mean_lanes(train)] * len(labeled), labeled)
    rows = [(name, f"{scores[name]:.3f}", f"{baseline[name]:.3f}") for name in scores]
    print(text_table([("", "network", "mean lanes"), *rows]))
    along = [along_lane(each.maps, 0, query, lane) for each in found for query, lane in each.lanes()]
    if along:
        share, area = (float(np.mean([getattr(each, name) for each in along])) for name in ("share", "area"))
        print(f"attention within 20 pixels of the query's own lane: {share:.1%} (of the picture {area:.1%})")
    print(f"{len(found):,} pictures, {run_ms:.0f} ms each with attention")
    if given.results is not None:
        lanes = [each.found.lanes(label.rows, each.size) for label, each in zip(labeled, found, strict=True)]
        write_results(given.results, list(zip(labeled, lanes, strict=True)), run_ms)
    if given.explore is not None:
        explore(labeled[:EXPLORED], found[:EXPLORED], given.explore)
        print(f"{given.explore}: open it in a browser")


if __name__ == "__main__":
    run_command(main)
