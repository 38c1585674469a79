"""Are the sizes chosen from the data good ones? One run on each of several generated datasets of different kinds."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from math import ceil

from benchmarks.converge import comparable
from benchmarks.curves import Curve
from benchmarks.grid_data import DatasetSpec, generate_dataset, is_generated
from benchmarks.result import Result, mean_and_range
from benchmarks.runs import Launcher, Run, with_seeds
from benchmarks.study import Request, Study, describe_sizes, markdown, steps_of_epoch, with_epochs, write_report
from detr_lite.config import Config
from detr_lite.structures import DetrLiteError
from detr_lite.text import printable

DATASETS: dict[str, DatasetSpec] = {
    "typical": DatasetSpec(images=1000, classes=8, objects=8, pixels=192),
    "few images": DatasetSpec(images=100, classes=8, objects=8, pixels=192),
    "many images": DatasetSpec(images=10_000, classes=8, objects=8, pixels=192),
    "one class": DatasetSpec(images=1000, classes=1, objects=8, pixels=192),
    "many classes": DatasetSpec(images=1000, classes=80, objects=8, pixels=192),
    "single objects": DatasetSpec(images=1000, classes=8, objects=1, pixels=192),
    "many objects": DatasetSpec(images=1000, classes=8, objects=150, pixels=384),
    "small images": DatasetSpec(images=1000, classes=8, objects=8, pixels=96),
    "large images": DatasetSpec(images=1000, classes=8, objects=8, pixels=640),
    "few small images of one class": DatasetSpec(images=100, classes=1, objects=1, pixels=96),
    "few images of many classes": DatasetSpec(images=100, classes=80, objects=8, pixels=192),
    "many objects of many classes": DatasetSpec(images=1000, classes=80, objects=150, pixels=640),
}
"""A typical one, then datasets that differ from it in one respect, then in several."""

COLUMNS = ("dataset", "images", "classes", "objects", "pixels", "chosen sizes", "steps", "AP", "AP50")


def grid(
    request: Request,
    steps: int,
    rows: Sequence[str] | None,
    launch: Launcher | None = None,
    datasets: Mapping[str, DatasetSpec] = DATASETS,
) -> None:
    """Generate the datasets, make the missing runs; print and write the table, plot the curves.

    Args:
        request: its `root` and `epochs` are not used.
        steps: of each run, rounded up to whole epochs.
        rows: names of datasets; by default all.

    Errors: an unknown row, a failed run (after the others are done).
    """
    unknown = [row for row in rows or () if row not in datasets]
    if unknown:
        raise DetrLiteError(f"--rows: there is no {unknown[0]!r}; there are: {', '.join(datasets)}")
    lines, curves, failures = [], [], []
    for row in rows or datasets:
        spec = datasets[row]
        folder = request.output / "runs" / "data" / "-".join(map(str, astuple(spec)))
        if request.list_only and not is_generated(folder):
            print(f"missing: dataset {row!r} ({spec}) and a run of at least {steps:,} steps")
            continue
        generate_dataset(folder, spec)
        study = Study(replace(request, root=str(folder)), comparable, launch)
        config = with_epochs(study.config, ceil(steps / steps_of_epoch(study.config, len(study.train.images))))
        runs = with_seeds(Run(row, config), request.seeds)
        failed = study.complete(runs)
        if failed is None:
            continue
        failures += failed
        results = study.runs.results(runs)
        lines.append(_row(row, spec, config, results))
        if results:
            curves.append(Curve(row, tuple(results), row == next(iter(datasets))))
    if lines:
        notes = (
            f"`{printable(request.config)}` from random weights, with sizes chosen from the data; at least "
            f"{steps:,} steps each; {request.describe_seeds()}. Metrics are those of the final weights."
        )
        table = "\n\n".join([markdown(COLUMNS, lines), notes])
        write_report(request, table, curves, "AP on validation images", failures)


def _row(row: str, spec: DatasetSpec, config: Config, results: Sequence[Result]) -> list[str]:
    cells = [row, f"{spec.images:,}", str(spec.classes), f"1 .. {spec.objects}", str(spec.pixels)]
    cells.append(describe_sizes(config))
    if not results:
        return [*cells, *["failed"] * 3]
    return [
        *cells,
        mean_and_range(results, lambda result: result.last.step, "{:,.0f}".format),
        mean_and_range(results, lambda result: result.last.metrics["AP"], "{:.3f}".format),
        mean_and_range(results, lambda result: result.last.metrics["AP50"], "{:.3f}".format),
    ]
