"""The ablation: the default settings, and one run for each change of them."""

from collections.abc import Mapping, Sequence

from benchmarks.curves import Curve
from benchmarks.result import Result, mean_and_range
from benchmarks.runs import Launcher, Run, with_seeds
from benchmarks.study import Request, Study, markdown, write_report
from detr_lite.config import Config, read_config
from detr_lite.structures import DetrLiteError
from detr_lite.training.auto import choose_sizes, keep_choices

DEFAULT = "default"

CHANGES: dict[str, list[str]] = {
    "AdamW instead of Muon": ["--optim.optimizer", "adamw", "--optim.lr", "null"],
    "EMA 0.998": ["--optim.ema_decay", "0.998"],
    "box regression instead of FDR": ["--model.box_head", "regression"],
    "no query deduplication": ["--model.query_dedup_iou", "1"],
    "no relation bias": ["--model.relation_bias", "false"],
    "no denoising": ["--model.denoising_queries", "0"],
    "no contrastive denoising": ["--model.contrastive_denoising", "false"],
    "gamma 1 instead of 1.5": ["--loss.gamma", "1"],
    "no learning rate hold": ["--optim.lr_hold", "0"],
    "no augmentation": ["--data.augmentation", "none"],
    "stride 16 only": ["--model.strides", "[16]"],
    "strides 8 and 16": ["--model.strides", "[8,16]"],
    "two encoder layers": ["--model.encoder_layers", "2"],
    "no encoder layer": ["--model.encoder_layers", "0"],
    "detr with the same sizes": ["--model.name", "detr", "--optim.optimizer", "null", "--optim.lr", "null"],
}
"""Each row of the table with its extra arguments for `tools/train.py`. A change that equals the default is skipped.
null leaves the value to be chosen, even if the settings file has one."""

COLUMNS = ("change", "AP", "AP50", "steps")


def ablate(
    request: Request,
    rows: Sequence[str] | None,
    launch: Launcher | None = None,
    changes: Mapping[str, Sequence[str]] = CHANGES,
) -> None:
    """Make the missing runs; print and write the table, plot the curves.

    Args:
        rows: names of changes; by default all. The default itself is always included.

    Errors: an unknown row, a failed run (after the others are done).
    """
    unknown = [row for row in rows or () if row not in changes]
    if unknown:
        raise DetrLiteError(f"--rows: there is no {unknown[0]!r}; there are: {', '.join(changes)}")
    study = Study(request, launch=launch)
    requested = {row: arguments for row, arguments in changes.items() if rows is None or row in rows}
    configs = {DEFAULT: study.config}
    for row, arguments in requested.items():
        try:
            config = apply_change(study, arguments)
        except DetrLiteError as error:  # a setting has been renamed, and the row has not
            raise DetrLiteError(f"row {row!r}: {error}") from error
        if config not in configs.values():
            configs[row] = config
        elif rows is not None:
            print(f"skipped {row!r}: it equals the default")
    runs = {row: with_seeds(Run(row, config), request.seeds) for row, config in configs.items()}
    failures = study.complete([run for runs_of_row in runs.values() for run in runs_of_row])
    if failures is None:
        return

    results = {row: study.runs.results(runs_of_row) for row, runs_of_row in runs.items()}
    lines = [_row(row, results_of_row) for row, results_of_row in results.items()]
    curves = [
        Curve(row, tuple(results_of_row), row == DEFAULT) for row, results_of_row in results.items() if results_of_row
    ]
    notes = f"{study.conditions()} Metrics are those of each run's best checkpoint."
    table = "\n\n".join([markdown(COLUMNS, lines), notes])
    write_report(request, table, curves, f"AP on the validation images of {study.runs.name}", failures)


def apply_change(study: Study, arguments: Sequence[str]) -> Config:
    """The default settings with the arguments applied. Sizes chosen from the data stay, so that one thing changes.

    The learning rate is chosen again, as each optimizer has its own.
    """
    config = read_config([*study.request.arguments(), *arguments], program="benchmark.py").config
    config = keep_choices(config, study.config, ("data", "model"))
    return choose_sizes(config, study.train)[0]


def _row(row: str, results: Sequence[Result]) -> list[str]:
    if not results:
        return [row, *["failed"] * (len(COLUMNS) - 1)]
    cells = [
        row,
        mean_and_range(results, lambda result: _best(result, "AP"), lambda value: f"{value:.3f}"),
        mean_and_range(results, lambda result: _best(result, "AP50"), lambda value: f"{value:.3f}"),
        mean_and_range(results, lambda result: result.last.step, lambda steps: f"{steps:,.0f}"),
    ]
    return [f"**{cell}**" for cell in cells] if row == DEFAULT else cells


def _best(result: Result, name: str) -> float:
    return (result.best or result.last.metrics)[name]
