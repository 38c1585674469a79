"""Evaluation of a checkpoint with the COCO metrics, and the files of the `evaluation` folder."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from detr_lite.build import build_criterion, build_reading, require
from detr_lite.config import data_root
from detr_lite.data.images.load import load_image
from detr_lite.data.reading import read_split
from detr_lite.data.records import Split
from detr_lite.detector import Detector
from detr_lite.evaluation.attention_metrics import AttentionMetrics
from detr_lite.evaluation.coco_map import CocoEvaluation, check_finite, evaluate_detections, most_objects
from detr_lite.evaluation.engines import Engine
from detr_lite.evaluation.packing import pack_detections, relabel_detections
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.evaluation.result_files import write_detections
from detr_lite.evaluation.thresholds import Thresholds, class_scores, find_thresholds
from detr_lite.io import refuse_links_out
from detr_lite.structures import Batch, DetectionArrays, Detections, DetrLiteError
from detr_lite.text import printable
from detr_lite.training.category_match import CategoryMatch, in_model_categories, match_categories
from detr_lite.training.checks.diagnostics import LearningRate, collapse_advice
from detr_lite.training.datamodule import default_workers, make_loader
from detr_lite.training.default_lr import default_lr
from detr_lite.training.evaluation_files import write_results
from detr_lite.training.evaluation_options import EvaluationOptions
from detr_lite.training.logged_ap import LoggedAP
from detr_lite.training.matched_attention import (
    ATTENTION_FILES,
    find_attention_collapse,
    measure_attention,
    report_attention,
)
from detr_lite.training.measured_attribution import ATTRIBUTION_FILES, measure_attribution, report_attribution
from detr_lite.training.state.evaluation_folder import results_home
from detr_lite.training.state.run_files import EVALUATION_FILES
from detr_lite.weights.checkpoint_path import find_checkpoint, is_source
from detr_lite.weights.onnx_model import OnnxModel
from detr_lite.weights.score_thresholds import ScoreThresholds

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedEvaluation:
    """A model, and the data that it is going to be evaluated on."""

    checkpoint: Path
    detector: Detector
    data: Split
    match: CategoryMatch
    output: Path
    batch_size: int
    options: EvaluationOptions

    @property
    def loader(self) -> DataLoader[Batch]:
        resize = self.detector.description.resize
        return make_loader(self.data, self.detector.transform, resize, self.batch_size, self.num_workers)

    @property
    def num_workers(self) -> int:
        return default_workers() if self.options.num_workers is None else self.options.num_workers


@dataclass
class Throughput:
    """Time of model and postprocessing, without reading images; the first of several batches is a warm-up."""

    images: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def images_per_second(self) -> float | None:
        start = min(1, len(self.seconds) - 1)
        return sum(self.images[start:]) / sum(self.seconds[start:]) if self.seconds else None


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation has found, under the labels of the dataset."""

    evaluation: CocoEvaluation
    throughput: Throughput
    detections: DetectionArrays
    thresholds: Thresholds | None
    """None without objects."""

    def model_thresholds(self, match: CategoryMatch) -> ScoreThresholds | None:
        """The thresholds under the labels of the model; None where there is no best score."""
        if self.thresholds is None or self.thresholds.overall is None:
            return None
        overall, scores = self.thresholds.overall.score, class_scores(self.thresholds)
        new_labels = match.new_labels.tolist()
        return ScoreThresholds(overall, tuple(scores[label] if label >= 0 else overall for label in new_labels))


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
    tile: int | None = None,
    overlap: float = 0.2,
    attribution: int | None = None,
) -> CocoEvaluation:
    """Evaluate and write metrics.json, per_class.csv, detections.json, thresholds.json and pr_curves.png.

    The numbers are logged, too. The checkpoint itself stays as it is. Of data without annotations only detections.json
    is written. The model computes in float32, as in the evaluations during training.

    Args:
        checkpoint: of detr_lite, its run folder, or a source of transformers, which has no dataset of its own.
        output: by default the folder `evaluation` in that of `results_home`.
        logged: what training has logged for this checkpoint; a line says why the number is another here, if it is.
        root, split, batch_size, num_workers, attention, engine, nms, iou, tile, overlap, attribution: as in
            `EvaluationOptions`.
    """
    options = EvaluationOptions(
        root, split, batch_size, num_workers, attention, attribution, engine, nms, iou, tile, overlap
    )
    return run_evaluation(prepare_evaluation(checkpoint, options, output), logged).evaluation


def prepare_evaluation(checkpoint: Path, options: EvaluationOptions, output: Path | None = None) -> PreparedEvaluation:
    """Load a model and read the data; nothing is written.

    Errors: wrong options, those of `load_any_model` and `match_categories`, and data that cannot be read.
    """
    options.check()
    checkpoint = find_checkpoint(checkpoint)
    home = results_home(checkpoint) if output is None else output
    output = output or home / "evaluation"
    refuse_links_out(home, [output / name for name in (*EVALUATION_FILES, *ATTENTION_FILES, *ATTRIBUTION_FILES)])
    is_foreign = is_source(checkpoint)
    if is_foreign and options.root is None:
        raise DetrLiteError(f"{checkpoint} has no dataset of its own; give --data.root")
    detector = Detector.from_checkpoint(checkpoint, nms=options.nms, tile=options.tile, overlap=options.overlap)
    if isinstance(detector.model, OnnxModel) and (options.attention or options.attribution is not None):
        option = "--attention" if options.attention else "--attribution"
        raise DetrLiteError(f"{option}: an ONNX model does not give its attention; use the checkpoint it was made from")
    settings = detector.description.config.data
    data = read_split(options.root or data_root(settings.root), options.split, build_reading(settings))
    match = match_categories(detector.categories, data, allow_unknown=is_foreign)
    batch_size = options.batch_size or require("data.batch_size", settings.batch_size)
    return PreparedEvaluation(checkpoint, detector, data, match, output, batch_size, options)


def run_evaluation(prepared: PreparedEvaluation, logged: LoggedAP | None = None) -> EvaluationResult:
    """Detect in all images, compute the metrics, and write and log the results."""
    detector, data, output, options = prepared.detector, prepared.data, prepared.output, prepared.options
    throughput = Throughput()
    most = most_objects(data.ground_truth)
    if options.tile is not None:
        found = detect_in_tiles(detector, data, prepared.batch_size, most, throughput)
    else:
        postprocess = detector.postprocess.covering(most)
        found = detect(detector.model, postprocess, prepared.loader, detector.device, throughput)
    detections = relabel_detections(pack_detections(found), prepared.match.new_labels)
    check_finite(detections)
    logger.info("\n%s on %s\n", printable(prepared.checkpoint), data.describe())
    if logged is None:  # else the run has said it before training
        for line in (*data.report.lines(), *prepared.match.lines):
            logger.info("%s", line)
    write_detections(output / "detections.json", detections, data.image_ids, data.categories)
    if options.engine == "pycocotools":  # which shows no progress
        logger.info("computing the metrics with pycocotools, which may take minutes")
    evaluation = evaluate_detections(data.ground_truth, detections, data.categories, options.engine, ious=options.iou)
    thresholds = None
    if len(data.ground_truth.labels):
        thresholds = find_thresholds(data.ground_truth, detections, data.categories)
        write_results(output, evaluation, thresholds, data, detections, options.inference())
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
    if options.tile is not None and (options.attention or options.attribution is not None):
        logger.info("attention and attribution below are of whole pictures, not of tiles")
    if options.attention:
        metrics = _measure_attention(prepared)
        report_attention(metrics, _explain_collapse(detector, data, metrics, found, evaluation), output)
    if options.attribution is not None:
        least = thresholds.overall.score if thresholds is not None and thresholds.overall is not None else 0.5
        split = in_model_categories(data, detector.categories, prepared.match)
        explained = measure_attribution(detector, split, options.attribution, least)
        report_attribution(explained, options.attribution, output)
    logger.info("results written to %s", printable(output))
    return EvaluationResult(evaluation, throughput, detections, thresholds)


@torch.inference_mode()
def detect(
    model: nn.Module,
    postprocess: Postprocess,
    loader: DataLoader[Batch],
    device: torch.device,
    throughput: Throughput | None = None,
) -> dict[int, Detections]:
    """Detections in every image, by image index."""
    model.eval()
    detections: dict[int, Detections] = {}
    for batch in tqdm(loader, desc="evaluating", unit="batch", leave=False, disable=None):
        start = time.perf_counter()
        output = model(batch.to(device))
        results = postprocess(output, [target.original_size for target in batch.targets])
        if throughput is not None:  # detections are on the CPU, so that the device has finished
            throughput.images.append(len(results))
            throughput.seconds.append(time.perf_counter() - start)
        detections.update(zip((target.image_id for target in batch.targets), results, strict=True))
    return detections


def detect_in_tiles(
    detector: Detector, split: Split, batch_size: int, most: int, throughput: Throughput
) -> dict[int, Detections]:
    """Detections in every image of a split, by image index; of each the best, at least 100 and at least `most`."""
    detections: dict[int, Detections] = {}
    limit = detector.postprocess.covering(most).max_detections
    for record in tqdm(split.images, desc="evaluating in tiles", unit="image", leave=False, disable=None):
        image = load_image(record.path, (record.height, record.width), split.orientation.default)
        start = time.perf_counter()
        detections[record.index] = detector(image, batch_size)[:limit]
        throughput.images.append(1)
        throughput.seconds.append(time.perf_counter() - start)
    return detections


def _measure_attention(prepared: PreparedEvaluation) -> AttentionMetrics:
    detector, description = prepared.detector, prepared.detector.description
    # One image at a time: it has no padding, and the attention weights of several large ones may not fit in memory.
    loader = make_loader(
        in_model_categories(prepared.data, detector.categories, prepared.match),
        detector.transform,
        description.resize,
        batch_size=1,
        num_workers=prepared.num_workers,
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
