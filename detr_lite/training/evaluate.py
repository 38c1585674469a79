"""Evaluation of a checkpoint: COCO's numbers, and the files that a run's `evaluation` folder holds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from detr_lite.build import build_criterion, require
from detr_lite.config import data_root
from detr_lite.data.coco import CocoSplit, read_split
from detr_lite.detector import Detector
from detr_lite.evaluation.attention_metrics import AttentionMetrics
from detr_lite.evaluation.coco_map import (
    CocoEvaluation,
    coco_results,
    evaluate_detections,
    explain_zero,
    write_per_class_csv,
)
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.io import atomic_write, refuse_links_out
from detr_lite.structures import Batch, Category, Detections, DetrLiteError
from detr_lite.text import printable
from detr_lite.training.auto import default_lr
from detr_lite.training.checks.diagnostics import Rate, against_collapse
from detr_lite.training.datamodule import default_workers, make_loader
from detr_lite.training.matched_attention import WRITTEN as ATTENTION
from detr_lite.training.matched_attention import collapse_of, in_labels_of, measure_attention, tell_attention
from detr_lite.viz.curves import plot_pr_curves

WRITTEN = ("metrics.json", "per_class.csv", "detections.json", "pr_curves.png")
"""The files of an evaluation."""


def evaluate_checkpoint(
    checkpoint: Path,
    root: Path | None = None,
    split: str = "val",
    output: Path | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    attention: bool = False,
) -> CocoEvaluation:
    """Evaluate and write metrics.json, per_class.csv, detections.json and pr_curves.png; prints what it found.

    Args:
        root: data set; by default the one that the checkpoint was trained on.
        batch_size: by default that of training, as padding, and with it the last digits, depend on it. So they do on
            precision: here it is 32 bits, in a run's own evaluations that of the run.
        output: folder; by default `evaluation` in the run that the checkpoint belongs to, or else beside it.
        attention: also measure where the queries look, and write attention.json and attention.png.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("workers", num_workers, 0)):
        if value is not None and value < least:
            raise DetrLiteError(f"--{name} is {value}; it must be at least {least}")
    home = run_of(checkpoint) if output is None else output
    output = output or home / "evaluation"
    refuse_links_out(home, [output / name for name in (*WRITTEN, *ATTENTION)])
    detector = Detector.from_checkpoint(checkpoint)
    description = detector.description
    data = read_split(root or data_root(description.config.data.root), split)
    category_ids = ids_by_name(detector.categories, data)
    batch_size = require("data.batch_size", description.config.data.batch_size) if batch_size is None else batch_size
    num_workers = default_workers() if num_workers is None else num_workers
    loader = make_loader(data, detector.transform, description.resize, batch_size, num_workers)
    found = detect(detector.model, detector.postprocess, loader, detector.device)
    results = [
        entry
        for image, detections in sorted(found.items())
        for entry in coco_results(_only_known(detections, category_ids), image, [id or 0 for id in category_ids])
    ]
    evaluation = evaluate_detections(data.ground_truth, results, data.categories)

    atomic_write(
        output / "metrics.json", lambda file: file.write(f"{json.dumps(evaluation.metrics, indent=2)}\n".encode())
    )
    atomic_write(output / "detections.json", lambda file: file.write(json.dumps(results).encode()))
    write_per_class_csv(output / "per_class.csv", evaluation)
    plot_pr_curves(evaluation, output / "pr_curves.png")
    print(f"\n{printable(checkpoint)} on {data.describe()}\n\n{evaluation.summary()}\n\n{evaluation.class_table()}\n")
    reason = explain_zero(evaluation, results, data.ground_truth)
    if reason:
        print(reason)
    if attention:
        measured, collapse = _attention_of(detector, data, num_workers, found, evaluation.metrics["AP50"])
        tell_attention(measured, collapse, output)
    print(f"written to {printable(output)}")
    return evaluation


def _attention_of(
    detector: Detector,
    data: CocoSplit,
    num_workers: int,
    found: Mapping[int, Detections],
    AP50: float,  # noqa: N803
) -> tuple[AttentionMetrics, str | None]:
    """The numbers, and in which way the model has collapsed, if so."""
    description = detector.description
    # One image at a time: it has no padding, and weights of several large ones may not fit.
    loader = make_loader(
        in_labels_of(data, detector.categories),
        detector.transform,
        description.resize,
        batch_size=1,
        num_workers=num_workers,
    )
    cost = build_criterion(description.config, len(detector.categories)).cost
    numbers = measure_attention(detector.model, cost, loader, detector.device)
    sizes = {record.id: (record.height, record.width) for record in data.images}
    collapse = collapse_of(numbers, found, sizes, AP50)
    optim = description.config.optim
    is_known = optim.lr is not None and optim.optimizer is not None  # which it is not of other people's weights
    rate = Rate(require("optim.lr", optim.lr), default_lr(description.config)) if is_known else None
    return numbers, None if collapse is None else f"{collapse}; {against_collapse(rate)}"


def run_of(checkpoint: Path) -> Path:
    """The run folder that a checkpoint belongs to; for one that was copied elsewhere, the folder where it lies."""
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def ids_by_name(categories: Sequence[Category], data: CocoSplit) -> list[int | None]:
    """The data set's id for each of the model's labels, by category name; None where the data set lacks it.

    Errors: a category of the data set that the model was not trained for.
    """
    ids = {category.name: category.id for category in data.categories}
    unknown = set(ids) - {category.name for category in categories}
    if unknown:
        raise DetrLiteError(
            f"{data.annotation_file}: the model was not trained for {', '.join(sorted(unknown))}; it knows "
            f"{', '.join(category.name for category in categories)}"
        )
    return [ids.get(category.name) for category in categories]


@torch.inference_mode()
def detect(
    model: nn.Module, postprocess: Postprocess, loader: DataLoader[Batch], device: torch.device
) -> dict[int, Detections]:
    """Detections of every image, by image id."""
    model.eval()
    found: dict[int, Detections] = {}
    for batch in tqdm(loader, desc="evaluating", unit="batch", leave=False, disable=None):
        output = model(batch.to(device))
        sizes = [target.original_size for target in batch.targets]
        found.update(zip((target.image_id for target in batch.targets), postprocess(output, sizes), strict=True))
    return found


def _only_known(detections: Detections, category_ids: Sequence[int | None]) -> Detections:
    keep = torch.tensor([category_ids[label] is not None for label in detections.labels.tolist()], dtype=torch.bool)
    return detections[keep]
