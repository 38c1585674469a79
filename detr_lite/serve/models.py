"""The models of a server, each under a name of its own."""

from collections.abc import Sequence
from pathlib import Path

from detr_lite.detector import Detector
from detr_lite.serve.worker import ModelWorker
from detr_lite.training.state.evaluation_folder import model_name


def load_workers(checkpoints: Sequence[Path], device: str, batch_size: int, waiting: int) -> list[ModelWorker]:
    """A worker for each checkpoint. Errors: those of `Detector.from_checkpoint`."""
    detectors = [Detector.from_checkpoint(path, device) for path in checkpoints]
    names = unique_names([model_name(path) for path in checkpoints])
    return [ModelWorker(name, detector, batch_size, waiting) for name, detector in zip(names, detectors, strict=True)]


def unique_names(names: Sequence[str]) -> list[str]:
    """Names that occur again get a number: a, a-2, a-3."""
    unique: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in unique:
            number += 1
            candidate = f"{name}-{number}"
        unique.append(candidate)
    return unique
