"""The end of a run: the evaluation of its best checkpoint, its score thresholds, pictures, and what to do next."""

import logging
from pathlib import Path

from detr_lite.config import Config
from detr_lite.data.dataset import DetectionDataset
from detr_lite.detector import Detector
from detr_lite.structures import DetrLiteError
from detr_lite.training.evaluate import EvaluationOptions, LoggedAP, prepare_evaluation, run_evaluation
from detr_lite.training.samples import draw_pictures
from detr_lite.training.state.checkpoint import BEST, LAST
from detr_lite.training.state.run_folder import CHECKPOINTS
from detr_lite.weights.checkpoint import store_thresholds
from detr_lite.weights.score_thresholds import ScoreThresholds

logger = logging.getLogger(__name__)

THRESHOLD = 0.4
"""Score from which a detection is drawn in a run's pictures."""


def finish(folder: Path, config: Config, logged: LoggedAP | None) -> None:
    """Evaluate the best checkpoint, draw pictures, and say where everything is.

    Args:
        logged: the AP of the best checkpoint in the run's log, if there is an AP.
    """
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
    detector = prepared.detector
    if detector.device.type != "cpu":
        detector = Detector.from_checkpoint(best, device="cpu")
    images = DetectionDataset(prepared.data, detector.transform)
    draw_pictures(detector.model, detector.postprocess, images, folder, THRESHOLD)
    pictures = ("curves.png", "samples.png", "attention.png", "evaluation/pr_curves.png")
    logger.info(f"see {folder}/{', '.join(name for name in pictures if (folder / name).is_file())}")
    logger.info(f"the trained model is {best}")


def keep_thresholds(checkpoint: Path, thresholds: ScoreThresholds) -> None:
    """Store them in the checkpoint; without them it is as good as before, so a full disk is no reason to fail."""
    try:
        store_thresholds(checkpoint, thresholds)
    except DetrLiteError as error:
        logger.warning(f"the score thresholds are in evaluation/thresholds.json alone: {error}")
