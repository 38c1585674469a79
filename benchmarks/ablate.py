"""What each part of the default contributes: the default, and beside it one run for each change of it."""

from collections.abc import Mapping, Sequence

from benchmarks.curves import Curve
from benchmarks.result import Result, mean_and_range
from benchmarks.runs import Run, Start, with_seeds
from benchmarks.study import Request, Study, finish, markdown
from detr_lite.config import Config, read_config
from detr_lite.structures import DetrLiteError
from detr_lite.training.auto import choose_sizes, keep_choices

DEFAULT = "default"

CHANGES: dict[str, list[str]] = {
    "AdamW instead of Muon": ["--optim.optimizer", "adamw", "--optim.lr", "null"],
    "EMA 0.998": ["--optim.ema_decay", "0.998"],
    "boxes as four numbers": ["--model.box_head", "regression"],
    "queries from overlapping tokens": ["--model.query_dedup_iou", "1"],
    "queries that do not see their boxes": ["--model.relation_bias", "false"],
    "no denoising": ["--model.denoising_queries", "0"],
    "denoising without negatives": ["--model.contrastive_denoising", "false"],
    "gamma 1 instead of 1.5": ["--loss.gamma", "1"],
    "rate that falls from the start": ["--optim.lr_hold", "0"],
    "no augmentation": ["--data.augmentation", "none"],
    "stride 16 alone": ["--model.strides", "[16]"],
    "strides 8 and 16": ["--model.strides", "[8,16]"],
    "two encoder layers": ["--model.encoder_layers", "2"],
    "no encoder layer": ["--model.encoder_layers", "0"],
    "detr at these sizes": ["--model.name", "detr", "--optim.optimizer", "null", "--optim.lr", "null"],
}
"""For each row of the table the words that `tools/train.py` gets beside the settings file. One that says what is the
default anyway is left out. null is: chosen, also where the settings file has a number."""

COLUMNS = ("change", "AP", "AP50", "steps")


def ablate(
    request: Request,
    rows: Sequence[str] | None,
    start: Start | None = None,
    changes: Mapping[str, Sequence[str]] = CHANGES,
) -> None:
    """Make the runs that are missing; print and write the table, draw the curves.

    Args:
        rows: names of changes; by default all. The default itself is always there.

    Errors: an unknown row, a run that fails (when the others are done).
    """
    unknown = [row for row in rows or () if row not in changes]
    if unknown:
        raise DetrLiteError(f"--rows: there is no {unknown[0]!r}; there are: {', '.join(changes)}")
    study = Study(request, start=start)
    wanted = {row: words for row, words in changes.items() if rows is None or row in rows}
    configs = {DEFAULT: study.config}
    for row, words in wanted.items():
        try:
            config = changed(study, words)
        except DetrLiteError as error:  # the settings have changed, and the row has not
            raise DetrLiteError(f"row {row!r}: {error}") from error
        if config not in configs.values():
            configs[row] = config
        elif rows is not None:
            print(f"note       {row}: that is the default")
    runs = {row: with_seeds(Run(row, config), request.seeds) for row, config in configs.items()}
    failures = study.make([run for of_row in runs.values() for run in of_row])
    if failures is None:
        return

    outcomes = {row: study.runs.outcomes(of_row) for row, of_row in runs.items()}
    lines = [_row(row, of_row) for row, of_row in outcomes.items()]
    curves = [Curve(row, tuple(of_row), row == DEFAULT) for row, of_row in outcomes.items() if of_row]
    notes = f"{study.conditions()} Numbers are those of each run's best checkpoint."
    table = "\n\n".join([markdown(COLUMNS, lines), notes])
    finish(request, table, curves, f"AP on the validation images of {study.runs.name}", failures)


def changed(study: Study, words: Sequence[str]) -> Config:
    """The default with words of a command line over it. Sizes that follow from the data stay: one change is one change.

    The learning rate is chosen for what is there then, as each optimiser has its own.
    """
    config = read_config([*study.request.words(), *words], program="benchmark.py").config
    config = keep_choices(config, study.config, ("data", "model"))
    return choose_sizes(config, study.train)[0]


def _row(row: str, outcomes: Sequence[Result]) -> list[str]:
    if not outcomes:
        return [row, *["failed"] * (len(COLUMNS) - 1)]
    cells = [
        row,
        mean_and_range(outcomes, lambda outcome: _best(outcome, "AP"), lambda value: f"{value:.3f}"),
        mean_and_range(outcomes, lambda outcome: _best(outcome, "AP50"), lambda value: f"{value:.3f}"),
        mean_and_range(outcomes, lambda outcome: outcome.last.step, lambda steps: f"{steps:,.0f}"),
    ]
    return [f"**{cell}**" for cell in cells] if row == DEFAULT else cells


def _best(outcome: Result, name: str) -> float:
    return (outcome.best or outcome.last.numbers)[name]
