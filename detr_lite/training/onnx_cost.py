"""What a smaller variant of an exported model costs in AP, and what it gains in time."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detr_lite.build import build_reading
from detr_lite.config import data_root
from detr_lite.data.images.load import load_image
from detr_lite.data.reading import read_split
from detr_lite.data.records import Split
from detr_lite.evaluation.coco_map import evaluate_detections, most_objects
from detr_lite.evaluation.packing import pack_detections, relabel_detections
from detr_lite.runtime.detect import OnnxDetector, resize, target_size
from detr_lite.structures import DetrLiteError
from detr_lite.training.evaluate import PreparedEvaluation, detect, prepare_evaluation
from detr_lite.training.evaluation_options import EvaluationOptions

TIMED_IMAGES = 10
REPEATS = 5
CLEAR_LOSS = 0.02
"""Of AP; more is called a loss that has to be looked at."""


@dataclass(frozen=True)
class Cost:
    """AP and time of a variant beside the float32 model."""

    AP: float
    AP_float32: float
    speed: float
    """How many times as fast as float32, the median of image by image."""
    milliseconds: float
    """Of one image, without reading and resizing it."""

    def __str__(self) -> str:
        change = self.AP - self.AP_float32
        pace = f"{self.speed:.2f} times as fast" if self.speed >= 1 else f"{1 / self.speed:.2f} times as SLOW"
        text = f"AP {self.AP:.3f} ({change:+.3f}), {self.milliseconds:.0f} ms an image ({pace} as float32 here)"
        if self.AP_float32 > 0 and change < -CLEAR_LOSS:
            text += ": a clear loss of AP; use the float32 model, or calibrate on more images like yours"
        return text


def prepare_cost(model: Path, root: Path | None, output: Path) -> PreparedEvaluation:
    """The validation images that AP is measured on. Errors: none, or none with objects."""
    prepared = prepare_evaluation(model, EvaluationOptions(root), output)
    if not prepared.data.has_objects:
        raise DetrLiteError(
            f"{prepared.data.report.source}: has no annotated objects, so that the cost in AP cannot be measured; give "
            "--data.root with a validation split"
        )
    return prepared


def measure_AP(prepared: PreparedEvaluation) -> float:  # noqa: N802
    """AP on the validation images."""
    data, detector = prepared.data, prepared.detector
    postprocess = detector.postprocess.covering(most_objects(data.ground_truth))
    found = detect(detector.model, postprocess, prepared.loader, detector.device)
    detections = relabel_detections(pack_detections(found), prepared.match.new_labels)
    return evaluate_detections(data.ground_truth, detections, data.categories).metrics["AP"]


def measure_speed(variant: Path, float32: Path, data: Split) -> tuple[float, float]:
    """How many times as fast the variant is, and its milliseconds an image, in turn with float32 on the same images."""
    detectors = [OnnxDetector(path) for path in (variant, float32)]
    ratios, milliseconds = [], []
    for pixels in sample_pixels(detectors[0].metadata["resize"], data, TIMED_IMAGES):
        seconds: list[list[float]] = [[], []]
        for repeat in range(REPEATS + 1):
            for detector, times in zip(detectors, seconds, strict=True):
                start = time.perf_counter()
                detector.run(pixels)
                if repeat:  # the first one allocates memory
                    times.append(time.perf_counter() - start)
        ratios.append(min(seconds[1]) / min(seconds[0]))
        milliseconds.append(1e3 * min(seconds[0]))
    return statistics.median(ratios), statistics.median(milliseconds)


def calibration_split(prepared: PreparedEvaluation) -> tuple[Split, str]:
    """The training images of the data that AP is measured on, and what to say of them; the validation images if there
    are no others."""
    settings = prepared.detector.description.config.data
    root = prepared.options.root or data_root(settings.root)
    try:
        train = read_split(root, "train", build_reading(settings))
    except DetrLiteError as error:
        return prepared.data, f"those that AP is measured on, as there are no training images ({error})"
    return train, train.describe()


def sample_pixels(rule: dict[str, Any], data: Split, count: int) -> Iterator[np.ndarray]:
    """Up to `count` images, evenly spread over the split and resized by the rule in a model's metadata."""
    for index in np.unique(np.linspace(0, len(data.images) - 1, count).round().astype(int)).tolist():
        record = data.images[index]
        image = load_image(record.path, (record.height, record.width), data.orientation.default)
        yield resize(image, *target_size(rule, image.height, image.width), rule)[None]
