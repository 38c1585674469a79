"""How fast `lite` learns beside transformers' detectors: the same data and minutes for each, one table, one picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Literal

from benchmarks.baselines import PEERS, Baseline, find_baseline, require_transformers
from benchmarks.curves import Curve
from benchmarks.result import Result, mean_and_range
from benchmarks.runs import Run, Start, with_seeds
from benchmarks.study import Request, Study, finish, markdown
from detr_lite.build import require
from detr_lite.config import Config
from detr_lite.structures import DetrLiteError

EVALUATIONS = 10
"""So many points each curve has."""

COLUMNS = ("model", "parameters", "optimiser, rate", "steps", "AP at half", "AP", "AP50", "AP75", "AP small")


@dataclass(frozen=True)
class Candidate:
    """A model at one learning rate: a line of the table, if no other rate does better."""

    name: str
    runs: tuple[Run, ...]

    @property
    def rate(self) -> float:
        return require("optim.lr", self.runs[0].config.optim.lr)


def converge(
    request: Request,
    against: Sequence[str],
    rates: Sequence[float],
    optimizer: Literal["adamw", "muon"],
    start: Start | None = None,
) -> None:
    """Make the runs that are missing; print and write the table, draw the curves.

    Args:
        rates: of the peers that are worth two; the others have the last of them.
        optimizer: of the peers; ours has that of the settings.

    Errors: an unknown peer, no rate, no transformers, a run that fails (when the others are done).
    """
    peers = {name: find_baseline(name) for name in against}
    if not rates or min(rates) <= 0:
        raise DetrLiteError(f"--rates: give one learning rate or more, such as 1e-3,5e-4; got {list(rates)}")
    if peers:
        require_transformers()
    study = Study(request, comparable, start)
    config = study.config
    ours = [Candidate("lite", tuple(with_seeds(Run("lite", config), request.seeds)))]
    groups = [ours, *(_contenders(name, peer, config, rates, optimizer, request.seeds) for name, peer in peers.items())]
    failures = study.make([run for group in groups for contender in group for run in contender.runs])
    if failures is None:
        return

    rows, curves, notes = [], [], []
    for group in groups:
        outcomes = {contender: study.runs.outcomes(contender.runs) for contender in group}
        ranked = sorted((one for one in group if outcomes[one]), key=lambda one: _final(outcomes[one]), reverse=True)
        is_ours = group is ours
        title = "lite (ours)" if is_ours else PEERS[group[0].name].title
        if not ranked:
            rows.append([title, *["failed"] * (len(COLUMNS) - 1)])
            continue
        rows.append(_row(title, ranked[0], outcomes[ranked[0]], is_ours))
        curves.append(Curve(title, tuple(outcomes[ranked[0]]), is_ours))
        notes += [f"{title} at {other.rate:g} had AP {_final(outcomes[other]):.3f}" for other in ranked[1:]]
    table = "\n\n".join([markdown(COLUMNS, rows), _notes(study, peers, notes)])
    finish(request, table, curves, f"AP on the validation images of {study.runs.name}", failures)


def comparable(config: Config) -> Config:
    """Settings under which models differ in nothing but themselves: `lite` on a random backbone, on one device."""
    return replace(
        config,
        model=replace(config.model, name="lite", pretrained=False, init_from=None, freeze_first_stage=False),
        optim=replace(config.optim, backbone_lr_factor=1.0),
        trainer=replace(
            config.trainer, num_evaluations=EVALUATIONS, patience=None, devices=1, num_nodes=1, logger="none"
        ),
    )


def _contenders(
    name: str, peer: Baseline, config: Config, rates: Sequence[float], optimizer: Literal["adamw", "muon"], seeds: int
) -> list[Candidate]:
    contenders = []
    for rate in dict.fromkeys(rates) if peer.two_rates else rates[-1:]:
        run = Run(
            f"{name} at {rate:g}", replace(config, optim=replace(config.optim, optimizer=optimizer, lr=rate)), name
        )
        contenders.append(Candidate(name, tuple(with_seeds(run, seeds))))
    return contenders


def _final(outcomes: Sequence[Result]) -> float:
    return sum(outcome.last.numbers["AP"] for outcome in outcomes) / len(outcomes)


def _row(title: str, contender: Candidate, outcomes: Sequence[Result], is_ours: bool) -> list[str]:
    def precision(value: float) -> str:
        return f"{value:.3f}"

    optimizer = contender.runs[0].config.optim.optimizer
    cells = [
        title,
        f"{outcomes[0].parameters / 1e6:.1f} M",
        f"{optimizer}, {contender.rate:g}",
        mean_and_range(outcomes, lambda outcome: outcome.last.step, lambda steps: f"{steps:,.0f}"),
        mean_and_range(outcomes, lambda outcome: outcome.at_half().numbers["AP"], precision),
        *(
            mean_and_range(outcomes, lambda outcome, name=name: outcome.last.numbers[name], precision)  # type: ignore[misc]
            for name in ("AP", "AP50", "AP75", "APs")
        ),
    ]
    return [f"**{cell}**" for cell in cells] if is_ours else cells


def _notes(study: Study, peers: dict[str, Baseline], of_rates: Sequence[str]) -> str:
    model = study.config.model
    notes = [
        study.conditions(),
        f"All start from random weights, on the same backbone ({model.backbone}), whose batch norm learns; layers: "
        f"{model.encoder_layers} of the encoder and {model.decoder_layers} of the decoder, of width {model.dim}. "
        "Numbers are those of the last weights.",
    ]
    if peers:
        several = [peer.title for peer in peers.values() if peer.levels == "pyramid"]
        levels = f"; {', '.join(several)} on strides 8, 16 and 32, where `lite` has {list(model.strides)}"
        notes.append(
            f"The others are transformers {version('transformers')}'s, with their own losses and initial weights as "
            f"published{levels if several else ''}."
        )
    if of_rates:
        notes.append(f"The better of the rates: {'; '.join(of_rates)}.")
    return "\n".join(notes)
