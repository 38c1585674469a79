"""Evaluation of a checkpoint with the COCO metrics, and the files of the `evaluation` folder."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from detr_lite.build import build_criterion, build_reading, require
from detr_lite.config import data_root
from detr_lite.data.reading import read_split
from detr_lite.data.records import Split
from detr_lite.detector import Detector
from detr_lite.evaluation.attention_metrics import AttentionMetrics
from detr_lite.evaluation.coco_map import CocoEvaluation, check_finite, check_ious, evaluate_detections, most_objects
from detr_lite.evaluation.engines import Engine
from detr_lite.evaluation.packing import pack_detections, relabel_detections
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.evaluation.result_files import write_detections, write_per_class_csv
from detr_lite.evaluation.zero import explain_zero
from detr_lite.io import atomic_write, refuse_links_out
from detr_lite.structures import Batch, Category, DetectionArrays, Detections, DetrLiteError
from detr_lite.text import printable, shorten_list
from detr_lite.training.auto import default_lr
from detr_lite.training.checks.diagnostics import LearningRate, collapse_advice
from detr_lite.training.datamodule import default_workers, make_loader
from detr_lite.training.matched_attention import (
    ATTENTION_FILES,
    find_attention_collapse,
    measure_attention,
    report_attention,
)
from detr_lite.training.state.run_folder import EVALUATION_FILES, run_of
from detr_lite.viz.curves import plot_pr_curves

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoggedAP:
    """The AP that a training has logged for a checkpoint, and how it computed the detections."""

    AP: float
    precision: str
    """Of Lightning, such as "bf16-mixed"."""
    processes: int
    device: str
    """Its type, such as "cuda"."""

    def explain_difference(self, AP: float, device: torch.device) -> str | None:  # noqa: N803
        """Why an evaluation in 32 bits in one process on `device` shows another number; None if it shows the same."""
        if f"{AP:.3f}" == f"{self.AP:.3f}":
            return None
        causes = []
        if self.precision != "32-true":
            causes.append(f"computed in {self.precision} precision, and this evaluation in 32 bits")
        if self.processes > 1:
            causes.append(f"had {self.processes} processes, whose batches are padded to other sizes")
        if self.device != device.type:
            causes.append(f"ran on {self.device}, and this evaluation on {device.type}")
        reason = " and ".join(causes) or "added up floating-point numbers in another order"
        return f"training logged AP {self.AP:.3f} for this checkpoint, not {AP:.3f}: it {reason}"


def evaluate_checkpoint(
    checkpoint: Path,
    root: Path | None = None,
    split: str = "val",
    output: Path | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    attention: bool = False,
    engine: Engine = "hotcoco",
    logged: LoggedAP | None = None,
    nms: float | None = None,
    iou: Sequence[float] = (),
) -> CocoEvaluation:
    """Evaluate and write metrics.json, per_class.csv, detections.json and pr_curves.png; the numbers are logged, too.

    Of data without annotations only detections.json is written.

    Args:
        root: folder of the dataset; by default the one that the checkpoint was trained on.
        batch_size: by default that of training, as padding, and with it the last digits, depend on it. They also
            depend on precision: here it is float32, in the evaluations during training that of the run.
        output: by default the folder `evaluation` of the checkpoint's run, or beside the checkpoint if it has none.
        attention: also measure the attention of matched queries, and write attention.json and attention.png.
        logged: what training has logged for this checkpoint; a line says why the number is another here, if it is.
        nms: IoU above which of two detections of a class the lower-scoring is removed.
        iou: thresholds of IoU at which AP is computed beside COCO's metrics.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if value is not None and value < least:
            raise DetrLiteError(f"--{name} is {value}; it must be at least {least}")
    check_ious(iou)
    home = run_of(checkpoint) if output is None else output
    output = output or home / "evaluation"
    refuse_links_out(home, [output / name for name in (*EVALUATION_FILES, *ATTENTION_FILES)])
    detector = Detector.from_checkpoint(checkpoint, nms=nms)
    description = detector.description
    settings = description.config.data
    data = read_split(root or data_root(settings.root), split, build_reading(settings))
    new_labels = labels_by_name(detector.categories, data)
    batch_size = require("data.batch_size", description.config.data.batch_size) if batch_size is None else batch_size
    num_workers = default_workers() if num_workers is None else num_workers
    loader = make_loader(data, detector.transform, description.resize, batch_size, num_workers)
    postprocess = detector.postprocess.covering(most_objects(data.ground_truth))
    found = detect(detector.model, postprocess, loader, detector.device)
    detections = relabel_detections(pack_detections(found), new_labels)
    check_finite(detections)
    logger.info("\n%s on %s\n", printable(checkpoint), data.describe())
    if logged is None:  # else the run has said it before training
        for line in data.report.lines():
            logger.info("%s", line)
    write_detections(output / "detections.json", detections, data.image_ids, data.categories)
    if engine == "pycocotools":  # which shows no progress
        logger.info("computing the metrics with pycocotools, which may take minutes")
    evaluation = evaluate_detections(data.ground_truth, detections, data.categories, engine, ious=iou)
    if len(data.ground_truth.labels):
        _report(evaluation, data, detections, output, nms)
        difference = None if logged is None else logged.explain_difference(evaluation.metrics["AP"], detector.device)
        if difference is not None:
            logger.info("%s", difference)
    else:
        for name in EVALUATION_FILES:
            if name != "detections.json":
                (output / name).unlink(missing_ok=True)  # of an earlier evaluation
        logger.info(
            f"{data.report.source} has no annotations, so there is nothing to compare the detections with: no metrics"
        )
    if attention:
        metrics = _measure_attention(detector, data, num_workers)
        report_attention(metrics, _explain_collapse(detector, data, metrics, found, evaluation), output)
    logger.info("results written to %s", printable(output))
    return evaluation


def labels_by_name(categories: Sequence[Category], data: Split) -> Int64[np.ndarray, " class"]:
    """The dataset's label for each of the model's, by category name; -1 where the dataset does not list it.

    Errors: an object of a category that the model was not trained for.
    """
    known = {category.name for category in categories}
    used = np.unique(data.ground_truth.labels[~data.ground_truth.is_crowd]).tolist()
    unknown = [data.categories[label].name for label in used if data.categories[label].name not in known]
    if unknown:
        raise DetrLiteError(
            f"{data.report.source}: has objects of {shorten_list(unknown)}, for which the model was not trained; it "
            f"knows {shorten_list([category.name for category in categories])}"
        )
    label_of = {category.name: label for label, category in enumerate(data.categories)}
    return np.array([label_of.get(category.name, -1) for category in categories], dtype=np.int64)


@torch.inference_mode()
def detect(
    model: nn.Module, postprocess: Postprocess, loader: DataLoader[Batch], device: torch.device
) -> dict[int, Detections]:
    """Detections in every image, by image index."""
    model.eval()
    detections: dict[int, Detections] = {}
    for batch in tqdm(loader, desc="evaluating", unit="batch", leave=False, disable=None):
        output = model(batch.to(device))
        sizes = [target.original_size for target in batch.targets]
        detections.update(zip((target.image_id for target in batch.targets), postprocess(output, sizes), strict=True))
    return detections


def _report(
    evaluation: CocoEvaluation, data: Split, detections: DetectionArrays, output: Path, nms: float | None
) -> None:
    metrics: dict[str, object] = dict(evaluation.as_dict())
    if evaluation.ious:
        metrics["AP_at_iou"] = dict(zip(map(str, evaluation.ious), evaluation.AP_at_iou, strict=True))
    if nms is not None:
        metrics["nms"] = nms
    content = f"{json.dumps(metrics, indent=2)}\n".encode()
    atomic_write(output / "metrics.json", lambda file: file.write(content))
    write_per_class_csv(output / "per_class.csv", evaluation)
    plot_pr_curves(evaluation, output / "pr_curves.png")
    logger.info("%s\n\n%s\n", evaluation.summary(), evaluation.class_table())
    reason = explain_zero(evaluation, data.ground_truth, detections, data.images.sizes_wh, data.image_ids)
    if reason:
        logger.warning("%s", reason)


def _measure_attention(detector: Detector, data: Split, num_workers: int) -> AttentionMetrics:
    description = detector.description
    # One image at a time: it has no padding, and the attention weights of several large ones may not fit in memory.
    loader = make_loader(
        data.with_categories(detector.categories),
        detector.transform,
        description.resize,
        batch_size=1,
        num_workers=num_workers,
    )
    cost = build_criterion(description.config, len(detector.categories), description.architecture).cost
    return measure_attention(detector.model, cost, loader, detector.device)


def _explain_collapse(
    detector: Detector,
    data: Split,
    metrics: AttentionMetrics,
    detections: Mapping[int, Detections],
    evaluation: CocoEvaluation,
) -> str | None:
    """How the model has collapsed, and what to do about it; None if it has not."""
    collapse = find_attention_collapse(metrics, detections, data.images.sizes_wh, evaluation.metrics["AP50"])
    if collapse is None:
        return None
    config = detector.description.config
    is_known = config.optim.lr is not None and config.optim.optimizer is not None  # not so of imported weights
    rate = LearningRate(require("optim.lr", config.optim.lr), default_lr(config)) if is_known else None
    return f"{collapse}; {collapse_advice(rate)}"
