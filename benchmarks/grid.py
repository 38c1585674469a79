"""Whether what is chosen from the data is well chosen: a run for each corner of what people bring."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from math import ceil

from benchmarks.converge import comparable
from benchmarks.curves import Curve
from benchmarks.grid_data import Kind, draw_data_set, is_drawn
from benchmarks.result import Result, mean_and_range
from benchmarks.runs import Run, Start, with_seeds
from benchmarks.study import Request, Study, finish, markdown, sizes
from detr_lite.build import require
from detr_lite.config import Config
from detr_lite.structures import DetrLiteError
from detr_lite.text import printable

KINDS: dict[str, Kind] = {
    "usual": Kind(images=1000, classes=8, objects=8, pixels=192),
    "few images": Kind(images=100, classes=8, objects=8, pixels=192),
    "many images": Kind(images=10_000, classes=8, objects=8, pixels=192),
    "one class": Kind(images=1000, classes=1, objects=8, pixels=192),
    "many classes": Kind(images=1000, classes=80, objects=8, pixels=192),
    "single objects": Kind(images=1000, classes=8, objects=1, pixels=192),
    "many objects": Kind(images=1000, classes=8, objects=150, pixels=384),
    "small images": Kind(images=1000, classes=8, objects=8, pixels=96),
    "large images": Kind(images=1000, classes=8, objects=8, pixels=640),
    "few of one and small": Kind(images=100, classes=1, objects=1, pixels=96),
    "few of many classes": Kind(images=100, classes=80, objects=8, pixels=192),
    "many of many and large": Kind(images=1000, classes=80, objects=150, pixels=640),
}
"""The usual one, then what is far from it in one respect, then in several."""

COLUMNS = ("data", "images", "classes", "objects", "pixels", "chosen", "steps", "AP", "AP50")


def grid(
    request: Request,
    steps: int,
    rows: Sequence[str] | None,
    start: Start | None = None,
    kinds: Mapping[str, Kind] = KINDS,
) -> None:
    """Draw the data sets, make the runs that are missing; print and write the table, draw the curves.

    Args:
        request: its root and its number of epochs are not used.
        steps: of each run, rounded up to whole epochs.
        rows: names of data sets; by default all.

    Errors: an unknown row, a run that fails (when the others are done).
    """
    unknown = [row for row in rows or () if row not in kinds]
    if unknown:
        raise DetrLiteError(f"--rows: there is no {unknown[0]!r}; there are: {', '.join(kinds)}")
    lines, curves, failures = [], [], []
    for row in rows or kinds:
        kind = kinds[row]
        folder = request.output / "runs" / "data" / "-".join(map(str, astuple(kind)))
        if request.only_list and not is_drawn(folder):
            print(f"to draw    {row}: {kind}; then a run of {steps:,} steps or more")
            continue
        draw_data_set(folder, kind)
        study = Study(replace(request, root=str(folder)), comparable, start)
        config = _of_steps(study.config, len(study.train.images), steps)
        runs = with_seeds(Run(row, config), request.seeds)
        failed = study.make(runs)
        if failed is None:
            continue
        failures += failed
        outcomes = study.runs.outcomes(runs)
        lines.append(_row(row, kind, config, outcomes))
        if outcomes:
            curves.append(Curve(row, tuple(outcomes), row == next(iter(kinds))))
    if lines:
        notes = (
            f"`{printable(request.config)}` from random weights, with the sizes that it leaves open; at least "
            f"{steps:,} steps each; {request.seeds_in_words()}. Numbers are those of the last weights."
        )
        finish(request, "\n\n".join([markdown(COLUMNS, lines), notes]), curves, "AP on validation images", failures)


def _of_steps(config: Config, images: int, steps: int) -> Config:
    in_epoch = ceil(images / require("data.batch_size", config.data.batch_size) / config.optim.accumulate_grad_batches)
    return replace(config, trainer=replace(config.trainer, max_epochs=ceil(steps / in_epoch), max_minutes=None))


def _row(row: str, kind: Kind, config: Config, outcomes: Sequence[Result]) -> list[str]:
    cells = [row, f"{kind.images:,}", str(kind.classes), f"1 .. {kind.objects}", str(kind.pixels), sizes(config)]
    if not outcomes:
        return [*cells, *["failed"] * 3]
    return [
        *cells,
        mean_and_range(outcomes, lambda outcome: outcome.last.step, "{:,.0f}".format),
        mean_and_range(outcomes, lambda outcome: outcome.last.numbers["AP"], "{:.3f}".format),
        mean_and_range(outcomes, lambda outcome: outcome.last.numbers["AP50"], "{:.3f}".format),
    ]
