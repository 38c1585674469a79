"""How fast `lite` converges beside detectors of transformers: same data and length of training, one table, two figures.

The length is in minutes, which count on the machine at hand, and in optimizer steps, which are the same everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import ceil
from typing import Literal

from benchmarks.baselines import Baseline, find_baseline
from benchmarks.curves import Curve, plot_curves
from benchmarks.result import Result, mean_and_range
from benchmarks.runs import Launcher, Run, with_seeds
from benchmarks.study import Request, Study, markdown, steps_of_epoch, with_epochs, write_report
from detr_lite.build import require
from detr_lite.config import Config
from detr_lite.families.registry import require_transformers
from detr_lite.structures import DetrLiteError

EVALUATIONS = 10
"""The number of points of each curve."""

COLUMNS = (
    *("model", "parameters", "optimizer, learning rate", "steps", "AP at half time", "AP", "AP50", "AP75"),
    "AP small",
)

Optimizer = Literal["adamw", "muon"]


@dataclass(frozen=True)
class Row:
    """A model with one optimizer, at several learning rates; each cell of the table shows the best of them."""

    title: str
    baseline: str | None
    optimizer: Optimizer
    rates: tuple[float, ...]

    def runs(self, config: Config, lr: float, seeds: int) -> list[Run]:
        if self.baseline is None:
            return with_seeds(Run("lite", config), seeds)
        name = self.baseline if self.optimizer == "adamw" else f"{self.baseline}, {self.optimizer}"
        config = replace(config, optim=replace(config.optim, optimizer=self.optimizer, lr=lr))
        return with_seeds(Run(f"{name} at {lr:g}", config, self.baseline), seeds)


@dataclass(frozen=True)
class Finished:
    """The finished runs of a row at one length, by learning rate, the best first."""

    by_rate: tuple[tuple[float, tuple[Result, ...]], ...]

    @property
    def best(self) -> tuple[Result, ...]:
        return self.by_rate[0][1] if self.by_rate else ()


def converge(
    request: Request,
    against: Sequence[str],
    rates: Sequence[float],
    muon_rates: Sequence[float] = (),
    steps: Sequence[int] = (),
    launch: Launcher | None = None,
) -> None:
    """Make the missing runs; print and write the table, plot the curves.

    Args:
        rates: learning rates, with AdamW, of the baselines that are run with several; the others use the last one.
        muon_rates: learning rates of the former with Muon, in rows of their own; none for no such rows.
        steps: lengths in optimizer steps, rounded up to whole epochs, each with runs and a column of its own.

    Errors: an unknown baseline, no learning rate, transformers missing, a failed run (after the others are done).
    """
    baselines = {name: find_baseline(name) for name in against}
    if not rates or min((*rates, *muon_rates)) <= 0:
        raise DetrLiteError(f"--rates: give one learning rate or more, such as 1e-3,5e-4; got {[*rates, *muon_rates]}")
    if baselines:
        require_transformers()
    study = Study(request, comparable, launch)
    lengths = {"": study.config, **_lengths(study.config, len(study.train.images), steps)}
    rows = _rows(study.config, baselines, rates, muon_rates)
    runs = {
        (length, row, lr): row.runs(config, lr, request.seeds)
        for length, config in lengths.items()
        for row in rows
        for lr in row.rates
    }
    failures = study.complete([run for runs_of_rate in runs.values() for run in runs_of_rate])
    if failures is None:
        return

    finished = {
        (length, row): _ranked({lr: study.runs.results(runs[length, row, lr]) for lr in row.rates})
        for length in lengths
        for row in rows
    }
    lines = [_line(row, [finished[length, row] for length in lengths]) for row in rows]
    columns = [*COLUMNS, *(f"AP, {length}" for length in lengths if length)]
    table = "\n\n".join([markdown(columns, lines), _notes(study, baselines, lengths, finished)])
    title = f"AP on the validation images of {study.runs.name}"
    longest = list(lengths)[-1]
    if longest and (curves := _curves(rows, longest, finished)):
        request.output.mkdir(parents=True, exist_ok=True)
        plot_curves(curves, f"{title}, {longest}", "steps", request.output / "curves_steps.png")
    write_report(request, table, _curves(rows, "", finished), title, failures)


def comparable(config: Config) -> Config:
    """Settings that leave the model as the only difference: `lite` on a random backbone, on one device."""
    return replace(
        config,
        model=replace(config.model, name="lite", pretrained=False, init_from=None, freeze_first_stage=False),
        optim=replace(config.optim, backbone_lr_factor=1.0),
        trainer=replace(
            config.trainer, num_evaluations=EVALUATIONS, patience=None, devices=1, num_nodes=1, logger="none"
        ),
    )


def _lengths(config: Config, images: int, steps: Sequence[int]) -> dict[str, Config]:
    """ "N steps" -> the settings of a run of that length, shortest first."""
    per_epoch = steps_of_epoch(config, images)
    epochs = sorted({ceil(each / per_epoch) for each in steps})
    return {f"{each * per_epoch:,} steps": with_epochs(config, each) for each in epochs}


def _rows(
    config: Config, baselines: dict[str, Baseline], rates: Sequence[float], muon_rates: Sequence[float]
) -> list[Row]:
    lr = require("optim.lr", config.optim.lr)
    rows = [Row("lite (ours)", None, config.optim.optimizer or "muon", (lr,))]
    for name, baseline in baselines.items():
        several = tuple(dict.fromkeys(rates)) if baseline.tune_lr else (rates[-1],)
        rows.append(Row(baseline.title, name, "adamw", several))
        if baseline.tune_lr and muon_rates:
            rows.append(Row(f"{baseline.title}, Muon", name, "muon", tuple(dict.fromkeys(muon_rates))))
    return rows


def _ranked(results: dict[float, list[Result]]) -> Finished:
    done = [(lr, tuple(each)) for lr, each in results.items() if each]
    return Finished(tuple(sorted(done, key=lambda candidate: _mean_ap(candidate[1]), reverse=True)))


def _mean_ap(results: Sequence[Result]) -> float:
    return sum(result.last.metrics["AP"] for result in results) / len(results)


def _curves(rows: Sequence[Row], length: str, finished: dict[tuple[str, Row], Finished]) -> list[Curve]:
    found = [(row, finished[length, row].best) for row in rows]
    return [Curve(row.title, results, row.baseline is None) for row, results in found if results]


def _line(row: Row, finished: Sequence[Finished]) -> list[str]:
    """The cells of a row: those of the runs by minutes, then AP of each number of steps."""

    def three_digits(value: float) -> str:
        return f"{value:.3f}"

    minutes, *by_steps = finished
    cells = [row.title, *["failed"] * (len(COLUMNS) - 1)]
    if minutes.best:
        results = minutes.best
        cells = [
            row.title,
            f"{results[0].parameters / 1e6:.1f} M",
            f"{row.optimizer}, {minutes.by_rate[0][0]:g}",
            mean_and_range(results, lambda result: result.last.step, lambda steps: f"{steps:,.0f}"),
            mean_and_range(results, lambda result: result.at_half_time().metrics["AP"], three_digits),
            *(
                mean_and_range(results, lambda result, name=name: result.last.metrics[name], three_digits)  # type: ignore[misc]
                for name in ("AP", "AP50", "AP75", "APs")
            ),
        ]
    for each in by_steps:
        is_done = bool(each.best)
        cells.append(
            mean_and_range(each.best, lambda result: result.last.metrics["AP"], three_digits) if is_done else "failed"
        )
    return [f"**{cell}**" for cell in cells] if row.baseline is None else cells


def _notes(
    study: Study,
    baselines: dict[str, Baseline],
    lengths: dict[str, Config],
    finished: dict[tuple[str, Row], Finished],
) -> str:
    model = study.config.model
    notes = [
        study.conditions(),
        f"All models start from random weights, on the same backbone ({model.backbone}) with trainable batch norm; "
        f"{model.encoder_layers} encoder and {model.decoder_layers} decoder layers of dimension {model.dim}. "
        "Metrics are those of the final weights.",
    ]
    if len(lengths) > 1:
        epochs = [str(config.trainer.max_epochs) for length, config in lengths.items() if length]
        notes.append(
            f"The columns of steps are from runs of their own, of {', '.join(epochs)} epochs, each with its learning "
            "rate schedule over its own length, whatever time a step takes."
        )
    if baselines:
        pyramids = [baseline.title for baseline in baselines.values() if baseline.levels == "pyramid"]
        levels = f"; {', '.join(pyramids)} on strides 8, 16 and 32, where `lite` has {list(model.strides)}"
        notes.append(
            f"The baselines are those of transformers {version('transformers')}, with their own losses and their "
            f"published initialization{levels if pyramids else ''}."
        )
    for length in lengths:
        others = [
            f"{row.title} with {lr:g}: AP {_mean_ap(results):.3f}"
            for (its_length, row), each in finished.items()
            if its_length == length
            for lr, results in each.by_rate[1:]
        ]
        if others:
            notes.append(f"Learning rates with lower AP{f', {length}' if length else ''}: {'; '.join(others)}.")
    return "\n".join(notes)
