"""The page of a run, `RUN/report.html`, and the page that compares several."""

import logging
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from detr_lite import __version__
from detr_lite.config import Config, config_to_dict
from detr_lite.data.fingerprint import fingerprint
from detr_lite.data.records import Split
from detr_lite.io import atomic_write
from detr_lite.structures import DetrLiteError
from detr_lite.text import printable, unique_names
from detr_lite.training.explorer_page import EXPLORER
from detr_lite.training.next_steps import longer_run, paste_command
from detr_lite.training.results import Results, find_results, same_data
from detr_lite.training.state.run_files import BEST, CHECKPOINTS
from detr_lite.viz.curves import read_columns
from detr_lite.viz.explorer.read_page import read_page
from detr_lite.viz.pages.page import check_replaceable
from detr_lite.viz.report.compared import ComparedResults, compare_models
from detr_lite.viz.report.comparison import comparison_page
from detr_lite.viz.report.content import Evaluated, RunFacts
from detr_lite.viz.report.page import KIND, report_page

logger = logging.getLogger(__name__)

REPORT = "report.html"
PACKAGES = ("torch", "torchvision", "timm", "lightning", "transformers", "hotcoco")
"""Whose versions a report names, where they are installed."""


def write_report(
    given: Path, output: Path | None = None, truth: Path | None = None, split: str | None = None
) -> Results:
    """Write the page of one run, evaluation or results file.

    Args:
        given, truth, split: as in `find_results`.
        output: by default `report.html` in the run folder, or else in the current one.

    Errors: those of `find_results` and `check_replaceable`; a metrics.json without detections.
    """
    if output is not None:
        check_replaceable(output, KIND)
    results = find_results(given, truth, split)
    if results.model is None:
        raise DetrLiteError(
            f"{printable(given)}: there is no detections.json beside these metrics, so there is nothing to report; "
            "evaluate writes one, and two or more metrics.json can be compared without"
        )
    path = output or (results.run or Path()) / REPORT
    check_replaceable(path, KIND)
    write_page(path, results.model, run_facts(results.model, results.run, results.config, results.nms))
    return results


def write_page(path: Path, model: Evaluated, facts: RunFacts) -> None:
    """Write the page of one model, over an earlier one, with links to the explorer's page in the same folder."""
    text = report_page(model, facts, explorer=read_page(path.with_name(EXPLORER))).encode()
    atomic_write(path, lambda file: file.write(text), durable=False)
    logger.info("report written to %s (%.1f MB)", printable(path), len(text) / 1e6)


def write_comparison(
    given: Sequence[Path],
    output: Path = Path("comparison.html"),
    truth: Path | None = None,
    split: str | None = None,
    samples: int = 1000,
) -> ComparedResults:
    """Write the page that compares several, and log the table and the differences to the first.

    Args:
        given, truth, split: as in `find_results`.
        samples: of the bootstrap.

    Errors: those of `find_results` and `check_replaceable`; detections in different data.
    """
    check_replaceable(output, KIND)
    results = [find_results(each, truth, split) for each in given]
    same_data(results)
    named = unique_names([each.name for each in results])
    compared = compare_models(
        [(name, each.metrics, each.model) for name, each in zip(named, results, strict=True)], samples
    )
    logger.info("\n%s\n", compared.table())
    for line in compared.lines():
        logger.info("%s", line)
    text = comparison_page(compared).encode()
    atomic_write(output, lambda file: file.write(text), durable=False)
    logger.info("comparison written to %s (%.1f MB)", printable(output), len(text) / 1e6)
    return compared


def run_facts(model: Evaluated, run: Path | None, config: Config | None, nms: float | None = None) -> RunFacts:
    """What the page says beside the results.

    Args:
        run, config: the run folder and its settings, for results of a run.
        nms: IoU of the non-maximum suppression that was applied to the detections.
    """
    metrics, best = (None, None) if run is None else (run / "metrics.csv", run / CHECKPOINTS / BEST)
    best = best if best is not None and best.is_file() else None
    has_log = metrics is not None and metrics.is_file()
    longer = longer_run(run, config) if run is not None and config is not None and has_log else None
    commands = [] if run is None or best is None else _commands(run, best)
    if longer is not None:
        commands.insert(0, ("Train on:", longer.command))
    return RunFacts(
        history=read_columns(metrics) if metrics is not None and has_log else None,
        settings=_flat(config),
        facts=_facts(model.split, run, best, nms),
        commands=commands,
        notes=[] if longer is None else [f"{longer.reason[:1].upper()}{longer.reason[1:]} (the command is below)."],
        explore="" if best is None else paste_command("visualize", "--checkpoint", best, "--explore", "explorer.html"),
    )


def _commands(run: Path, best: Path) -> list[tuple[str, str]]:
    """What one would do next with a run: use it, look inside, measure it elsewhere, repeat it."""
    model, images = ("--checkpoint", best), ("--source", "IMAGES")
    return [
        (
            "Detect objects in your own images, at the best score threshold:",
            paste_command("predict", *model, *images, "--output", "predictions", "--threshold", "best"),
        ),
        (
            "See where the model looks in them:",
            paste_command("visualize", *model, *images, "--explore", "explorer.html"),
        ),
        (
            "Measure it on another dataset:",
            paste_command("evaluate", *model, "--data.root", "DATA", "--output", "evaluation_of_data"),
        ),
        (
            "Train once more with the same settings:",
            paste_command("train", "--config", run / "config.yaml"),
        ),
    ]


def _facts(split: Split, run: Path | None, checkpoint: Path | None, nms: float | None) -> list[tuple[str, str]]:
    facts = [
        ("Data", f"{split.source}, split {split.name}, {split.format}"),
        ("Content", fingerprint(split)),
    ]
    if run is not None:
        facts.append(("Run folder", str(run)))
    if checkpoint is not None:
        facts.append(("Checkpoint", str(checkpoint)))
    if nms is not None:
        facts.append(("Non-maximum suppression", f"the evaluation removed duplicates with --nms {nms:g}"))
    versions = [f"{name} {found}" for name in PACKAGES if (found := _version(name)) is not None]
    facts.append(
        ("Report made with", f"detr_lite {__version__}, {', '.join(versions)}, Python {platform.python_version()}")
    )
    return [(name, printable(value)) for name, value in facts]


def _flat(config: Config | None) -> list[tuple[str, str]]:
    """Settings by their names on the command line."""
    flat: list[tuple[str, str]] = []
    for name, value in (config_to_dict(config) if config is not None else {}).items():
        if isinstance(value, Mapping):
            flat += [(f"{name}.{key}", _shown(entry)) for key, entry in value.items()]
        else:
            flat.append((name, _shown(value)))
    return flat


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else printable(value)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
