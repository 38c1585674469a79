"""The end of a run: the evaluation of its best checkpoint, its score thresholds, pictures, and what to do next."""

import logging
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.loggers import Logger

from detr_lite.config import Config
from detr_lite.data.dataset import DetectionDataset
from detr_lite.detector import Detector
from detr_lite.evaluation.analysis import Analysis, analyze
from detr_lite.structures import DetrLiteError
from detr_lite.training.checks.run_length import read_log
from detr_lite.training.evaluate import EvaluationResult, PreparedEvaluation, prepare_evaluation, run_evaluation
from detr_lite.training.evaluation_options import EvaluationOptions
from detr_lite.training.explored_model import explored_model, training_frames
from detr_lite.training.explorer_page import EXPLORER, IMAGES, choose_images, explore_split
from detr_lite.training.logged_ap import LoggedAP
from detr_lite.training.loggers import log_final
from detr_lite.training.next_steps import next_steps
from detr_lite.training.report import REPORT, run_facts, write_page
from detr_lite.training.samples import draw_pictures
from detr_lite.training.state.run_files import BEST, CHECKPOINTS, LAST
from detr_lite.viz.report.content import Evaluated
from detr_lite.viz.report.worst import worst_images
from detr_lite.weights.checkpoint import store_thresholds
from detr_lite.weights.score_thresholds import ScoreThresholds

logger = logging.getLogger(__name__)

THRESHOLD = 0.4
"""Score from which a detection is drawn in a run's pictures."""

PICTURES = ("samples.png", "curves.png", "attention.png", "evaluation/pr_curves.png")
"""What the loggers show, from the run folder."""


@dataclass(frozen=True)
class FinishedRun:
    """A trained model with its evaluation, of which everything at the end of a run is made."""

    folder: Path
    config: Config
    checkpoint: Path
    detector: Detector
    """On the CPU."""
    prepared: PreparedEvaluation
    result: EvaluationResult
    analysis: Analysis | None
    """None without objects."""

    @property
    def numbers(self) -> dict[str, float]:
        """For the loggers: the metrics, the best score threshold, and what each kind of error costs of AP50."""
        if self.analysis is None:
            return {}
        metrics = self.result.evaluation.as_dict()
        numbers = {name: value for name, value in metrics.items() if value >= 0}  # -1 where there is no object
        best = self.analysis.thresholds.overall
        if best is not None:
            numbers |= {"best_threshold": best.score, "precision": best.precision, "recall": best.recall}
        for errors in self.analysis.errors[:1]:
            numbers |= {f"error_cost/{kind}": cost for kind, cost in errors.costs.items()}
        return numbers


def finish(folder: Path, config: Config, logged: LoggedAP | None, run_logger: Logger | None = None) -> None:
    """Evaluate the best checkpoint, draw pictures, and say where everything is and how to go on.

    Args:
        logged: the AP of the best checkpoint in the run's log, if there is an AP.
        run_logger: gets the final numbers and pictures.
    """
    run = evaluate_run(folder, config, logged)
    images = DetectionDataset(run.prepared.data, run.detector.transform)
    draw_pictures(run.detector.model, run.detector.postprocess, images, folder, THRESHOLD)
    explore_run(run)
    report_run(run)
    if run_logger is not None:
        pictures = {Path(name).stem: folder / name for name in PICTURES}
        log_final(run_logger, read_log(folder / "metrics.csv").steps, run.numbers, pictures)
    has_thresholds = run.analysis is not None and run.analysis.thresholds.overall is not None
    for line in next_steps(folder, config, run.checkpoint, run.prepared.data, has_thresholds):
        logger.info(line)


def evaluate_run(folder: Path, config: Config, logged: LoggedAP | None) -> FinishedRun:
    """Evaluate the best checkpoint of a run, and keep its score thresholds in it."""
    best = folder / CHECKPOINTS / BEST
    if not best.is_file():  # of a finished run, removed since
        logger.warning(f"{best} does not exist; {LAST} is evaluated instead")
        best, logged = folder / CHECKPOINTS / LAST, None
    options = EvaluationOptions(batch_size=config.data.batch_size, num_workers=config.data.num_workers)
    prepared = prepare_evaluation(best, options, folder / "evaluation")
    result = run_evaluation(prepared, logged)
    thresholds = result.model_thresholds(prepared.match)
    if thresholds is not None and best.name == BEST:
        keep_thresholds(best, thresholds)
    analysis = None
    if result.thresholds is not None:
        analysis = analyze(prepared.data.ground_truth, result.detections, prepared.data.categories)
    detector = prepared.detector
    if detector.device.type != "cpu":
        detector = Detector.from_checkpoint(best, device="cpu")
    return FinishedRun(folder, config, best, detector, prepared, result, analysis)


def keep_thresholds(checkpoint: Path, thresholds: ScoreThresholds) -> None:
    """Store them in the checkpoint; without them it is as good as before, so a full disk is no reason to fail."""
    try:
        store_thresholds(checkpoint, thresholds)
    except DetrLiteError as error:
        logger.warning(f"the score thresholds are in evaluation/thresholds.json alone: {error}")


def report_run(run: FinishedRun) -> None:
    """Write report.html; not without objects, of which there is nothing to report."""
    if run.analysis is None:
        return
    result, split = run.result, run.prepared.data
    model = Evaluated(run.folder.name, split, result.detections, result.evaluation, run.analysis)
    write_page(run.folder / REPORT, model, run_facts(model, run.folder, run.config))


def explore_run(run: FinishedRun) -> None:
    """Write explorer.html with the first images of the report's gallery."""
    analysis, split = run.analysis, run.prepared.data
    worst = [] if analysis is None else worst_images(analysis.findings, IMAGES)
    images = choose_images(len(split.images), worst)
    threshold = THRESHOLD if analysis is None else analysis.thresholds.working
    # With the GPU if there is one, so that the time is enough for all of them.
    detector = run.prepared.detector
    models = [explored_model(detector, run.checkpoint, run.folder.name)]
    history = training_frames(run.folder)
    explore_split(detector, split, images, run.folder / EXPLORER, threshold, models=models, history=history)
