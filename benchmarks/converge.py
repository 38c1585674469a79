"""How fast `lite` converges beside detectors of transformers: same data and training time, one table, one figure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Literal

from benchmarks.baselines import BASELINES, Baseline, find_baseline, require_transformers
from benchmarks.curves import Curve
from benchmarks.result import Result, mean_and_range
from benchmarks.runs import Launcher, Run, with_seeds
from benchmarks.study import Request, Study, markdown, write_report
from detr_lite.build import require
from detr_lite.config import Config
from detr_lite.structures import DetrLiteError

EVALUATIONS = 10
"""The number of points of each curve."""

COLUMNS = (
    *("model", "parameters", "optimizer, learning rate", "steps", "AP at half time", "AP", "AP50", "AP75"),
    "AP small",
)


@dataclass(frozen=True)
class Candidate:
    """A model at one learning rate; the table shows the best candidate of each model."""

    name: str
    runs: tuple[Run, ...]

    @property
    def lr(self) -> float:
        return require("optim.lr", self.runs[0].config.optim.lr)


def converge(
    request: Request,
    against: Sequence[str],
    rates: Sequence[float],
    optimizer: Literal["adamw", "muon"],
    launch: Launcher | None = None,
) -> None:
    """Make the missing runs; print and write the table, plot the curves.

    Args:
        rates: learning rates of the baselines that are run with several; the others use the last one.
        optimizer: of the baselines; `lite` uses the optimizer of the settings.

    Errors: an unknown baseline, no learning rate, transformers missing, a failed run (after the others are done).
    """
    baselines = {name: find_baseline(name) for name in against}
    if not rates or min(rates) <= 0:
        raise DetrLiteError(f"--rates: give one learning rate or more, such as 1e-3,5e-4; got {list(rates)}")
    if baselines:
        require_transformers()
    study = Study(request, comparable, launch)
    config = study.config
    lite = [Candidate("lite", tuple(with_seeds(Run("lite", config), request.seeds)))]
    groups = [
        lite,
        *(_candidates(name, baseline, config, rates, optimizer, request.seeds) for name, baseline in baselines.items()),
    ]
    failures = study.complete([run for group in groups for candidate in group for run in candidate.runs])
    if failures is None:
        return

    rows, curves, notes = [], [], []
    for group in groups:
        results = {candidate: study.runs.results(candidate.runs) for candidate in group}
        finished = [candidate for candidate in group if results[candidate]]
        ranked = sorted(finished, key=lambda candidate: _mean_ap(results[candidate]), reverse=True)
        is_lite = group is lite
        title = "lite (ours)" if is_lite else BASELINES[group[0].name].title
        if not ranked:
            rows.append([title, *["failed"] * (len(COLUMNS) - 1)])
            continue
        rows.append(_row(title, ranked[0], results[ranked[0]], is_lite))
        curves.append(Curve(title, tuple(results[ranked[0]]), is_lite))
        notes += [f"{title} with {other.lr:g}: AP {_mean_ap(results[other]):.3f}" for other in ranked[1:]]
    table = "\n\n".join([markdown(COLUMNS, rows), _notes(study, baselines, notes)])
    write_report(request, table, curves, f"AP on the validation images of {study.runs.name}", failures)


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


def _candidates(
    name: str,
    baseline: Baseline,
    config: Config,
    rates: Sequence[float],
    optimizer: Literal["adamw", "muon"],
    seeds: int,
) -> list[Candidate]:
    candidates = []
    for lr in dict.fromkeys(rates) if baseline.tune_lr else rates[-1:]:
        run = Run(f"{name} at {lr:g}", replace(config, optim=replace(config.optim, optimizer=optimizer, lr=lr)), name)
        candidates.append(Candidate(name, tuple(with_seeds(run, seeds))))
    return candidates


def _mean_ap(results: Sequence[Result]) -> float:
    return sum(result.last.metrics["AP"] for result in results) / len(results)


def _row(title: str, candidate: Candidate, results: Sequence[Result], is_bold: bool) -> list[str]:
    def three_digits(value: float) -> str:
        return f"{value:.3f}"

    optimizer = candidate.runs[0].config.optim.optimizer
    cells = [
        title,
        f"{results[0].parameters / 1e6:.1f} M",
        f"{optimizer}, {candidate.lr:g}",
        mean_and_range(results, lambda result: result.last.step, lambda steps: f"{steps:,.0f}"),
        mean_and_range(results, lambda result: result.at_half_time().metrics["AP"], three_digits),
        *(
            mean_and_range(results, lambda result, name=name: result.last.metrics[name], three_digits)  # type: ignore[misc]
            for name in ("AP", "AP50", "AP75", "APs")
        ),
    ]
    return [f"**{cell}**" for cell in cells] if is_bold else cells


def _notes(study: Study, baselines: dict[str, Baseline], other_rates: Sequence[str]) -> str:
    model = study.config.model
    notes = [
        study.conditions(),
        f"All models start from random weights, on the same backbone ({model.backbone}) with trainable batch norm; "
        f"{model.encoder_layers} encoder and {model.decoder_layers} decoder layers of dimension {model.dim}. "
        "Metrics are those of the final weights.",
    ]
    if baselines:
        pyramids = [baseline.title for baseline in baselines.values() if baseline.levels == "pyramid"]
        levels = f"; {', '.join(pyramids)} on strides 8, 16 and 32, where `lite` has {list(model.strides)}"
        notes.append(
            f"The baselines are those of transformers {version('transformers')}, with their own losses and their "
            f"published initialization{levels if pyramids else ''}."
        )
    if other_rates:
        notes.append(f"Learning rates with lower AP: {'; '.join(other_rates)}.")
    return "\n".join(notes)
