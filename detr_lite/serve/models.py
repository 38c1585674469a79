"""The models of a server, each under a name of its own."""

from collections.abc import Sequence
from pathlib import Path

from detr_lite.detector import Detector
from detr_lite.serve.worker import ModelWorker
from detr_lite.text import unique_names
from detr_lite.training.explored_model import explored_model
from detr_lite.training.state.evaluation_folder import model_name


def load_workers(checkpoints: Sequence[Path], device: str, batch_size: int, waiting: int) -> list[ModelWorker]:
    """A worker for each checkpoint. Errors: those of `Detector.from_checkpoint`."""
    detectors = [Detector.from_checkpoint(path, device) for path in checkpoints]
    names = unique_names([model_name(path) for path in checkpoints])
    return [
        ModelWorker(name, detector, explored_model(detector, path, name), batch_size, waiting)
        for name, detector, path in zip(names, detectors, checkpoints, strict=True)
    ]
