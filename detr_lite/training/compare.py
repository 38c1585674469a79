"""Several checkpoints and detectors of transformers evaluated on the same data, as one table."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detr_lite.detector import Detector
from detr_lite.evaluation.coco_map import CocoEvaluation, iou_name
from detr_lite.io import atomic_write, refuse_links_out
from detr_lite.structures import DetrLiteError
from detr_lite.text import printable, shorten_list, text_table
from detr_lite.training.evaluate import PreparedEvaluation, Throughput, prepare_evaluation, run_evaluation
from detr_lite.training.evaluation_options import EvaluationOptions
from detr_lite.training.state.evaluation_folder import RUNS, folder_name, model_name
from detr_lite.weights.checkpoint_path import find_checkpoint

logger = logging.getLogger(__name__)

COMPARISON_FILES = ("comparison.json", "comparison.md")
"""What a comparison writes beside a folder for each model."""
COLUMNS = {"AP": "AP", "AP50": "AP50", "APs": "AP small", "APm": "AP medium", "APl": "AP large"}
"""Metric -> heading."""


@dataclass(frozen=True)
class ComparedModel:
    """One row of the table."""

    name: str
    prepared: PreparedEvaluation
    evaluation: CocoEvaluation
    throughput: Throughput

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.prepared.detector.model.parameters())

    def cells(self) -> list[str]:
        speed = self.throughput.images_per_second
        values = [self.evaluation.metrics[metric] for metric in COLUMNS]
        return [
            printable(self.name),
            *(_number(value) for value in (*values, *self.evaluation.AP_at_iou)),
            f"{self.parameters / 1e6:.1f}",
            "-" if speed is None else f"{speed:.3g}" if speed < 100 else f"{speed:.0f}",
        ]

    def as_dict(self) -> dict[str, Any]:
        evaluation = self.evaluation
        at_iou = dict(zip(map(str, evaluation.ious), evaluation.AP_at_iou, strict=True))
        return {
            "name": self.name,
            "checkpoint": str(self.prepared.checkpoint),
            "folder": self.prepared.output.name,
            "metrics": evaluation.as_dict(),
            **({"AP_at_iou": at_iou} if at_iou else {}),
            "parameters": self.parameters,
            "images_per_second": self.throughput.images_per_second,
            "batch_size": self.prepared.batch_size,
            "notes": list(self.prepared.match.lines),
        }


def compare_checkpoints(
    checkpoints: Sequence[Path],
    options: EvaluationOptions,
    output: Path | None = None,
) -> list[ComparedModel]:
    """Evaluate each, write comparison.json and comparison.md, and a folder with the results of each beside them.

    All models are loaded before the first is evaluated, so that a wrong name costs no time. The two files are written
    after each model.

    Args:
        checkpoints: of detr_lite, or sources of transformers.
        output: by default `runs/comparison`, or with the next free number.

    Errors: those of `prepare_evaluation`; no `options.root` for models that were trained on different datasets; data
    without annotations.
    """
    output = output or _free_folder()
    refuse_links_out(output, [output / name for name in COMPARISON_FILES])
    checkpoints = [find_checkpoint(checkpoint) for checkpoint in checkpoints]
    names = _distinct_names(checkpoints)
    prepared = []
    for name, checkpoint in zip(names, checkpoints, strict=True):
        prepared.append(prepare_evaluation(checkpoint, options, output / folder_name(name)))
    _check_same_data(prepared)
    compared: list[ComparedModel] = []
    for number, (name, each) in enumerate(zip(names, prepared, strict=True), start=1):
        logger.info("\nmodel %d of %d: %s", number, len(prepared), printable(name))
        result = run_evaluation(each)
        compared.append(ComparedModel(name, each, result.evaluation, result.throughput))
        _write(compared, output)
    logger.info("\n%s\n", text_table([_headings(compared), *(each.cells() for each in compared)]))
    for line in _notes(compared):
        logger.info("%s", line)
    logger.info("comparison written to %s", printable(output))
    return compared


def _free_folder() -> Path:
    folder, number = RUNS / "comparison", 1
    while folder.exists():
        number += 1
        folder = RUNS / f"comparison-{number}"
    return folder


def _distinct_names(checkpoints: Sequence[Path]) -> list[str]:
    """Names whose folders differ, also where a file system ignores case."""
    names: list[str] = []
    for checkpoint in checkpoints:
        name = own = model_name(checkpoint)
        number = 1
        while folder_name(name).casefold() in {folder_name(other).casefold() for other in (*names, *COMPARISON_FILES)}:
            number += 1
            name = f"{own}-{number}"
        names.append(name)
    return names


def _check_same_data(prepared: Sequence[PreparedEvaluation]) -> None:
    roots = [each.data.root.resolve() for each in prepared]
    if len(set(roots)) > 1:
        shown = shorten_list([str(root) for root in dict.fromkeys(roots)])
        raise DetrLiteError(f"the checkpoints were trained on different datasets ({shown}); give --data.root")
    data = prepared[0].data
    if not len(data.ground_truth.labels):
        raise DetrLiteError(f"{data.report.source} has no annotations, so there is nothing to compare the models by")


def _write(compared: Sequence[ComparedModel], output: Path) -> None:
    first = compared[0].prepared
    content = {
        "data": str(first.data.source),
        "images": len(first.data.images),
        "device": _device(first.detector),
        **({} if first.options.nms is None else {"nms": first.options.nms}),
        "models": [each.as_dict() for each in compared],
    }
    text = f"{json.dumps(content, indent=2)}\n".encode()
    atomic_write(output / "comparison.json", lambda file: file.write(text))
    page = "\n\n".join(
        [f"# Comparison on {printable(first.data.source)}", _markdown_table(compared), *_notes(compared)]
    )
    atomic_write(output / "comparison.md", lambda file: file.write(f"{page}\n".encode()))


def _headings(compared: Sequence[ComparedModel]) -> list[str]:
    at_ious = [iou_name(iou) for iou in compared[0].evaluation.ious]
    return ["model", *COLUMNS.values(), *at_ious, "parameters (M)", "images/s"]


def _markdown_table(compared: Sequence[ComparedModel]) -> str:
    headings = _headings(compared)
    rows = [headings, ["---", *("---:" for _ in headings[1:])], *(each.cells() for each in compared)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _notes(compared: Sequence[ComparedModel]) -> list[str]:
    """How the speed was measured, and what was said of the categories of each model."""
    first = compared[0].prepared
    batches = {each.name: each.prepared.batch_size for each in compared}
    sizes = {*batches.values()}
    listed = ", ".join(f"{size} ({printable(name)})" for name, size in batches.items())
    lines = [
        f"images/s: model and postprocessing in float32 on {_device(first.detector)}, without reading images, in "
        f"batches of {sizes.pop() if len(sizes) == 1 else listed}"
    ]
    return lines + [printable(f"{each.name}: {line}") for each in compared for line in each.prepared.match.lines]


def _device(detector: Detector) -> str:
    if detector.device.type == "cuda":
        return torch.cuda.get_device_name(detector.device)
    return detector.device.type


def _number(value: float) -> str:
    return f"{value:.3f}" if value > -1 else "-"
