"""What the explorer says of a model: its name, AP and settings, and how its attention formed in training."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from detr_lite.detector import Detector
from detr_lite.structures import DetrLiteError
from detr_lite.text import printable, reason_of
from detr_lite.training.callbacks.attention_logger import FRAMES, TABLE
from detr_lite.viz.explorer.models import ExploredModel, TrainingFrame
from detr_lite.viz.explorer.scene import encode_picture
from detr_lite.weights.checkpoint_path import BEST, CHECKPOINTS, find_checkpoint

MOST_FRAMES, WIDEST = 16, 1000
"""Of the pictures of a run: how many a page has, and their pixels."""


def explored_model(detector: Detector, checkpoint: Path, name: str) -> ExploredModel:
    """The model with its facts; the AP is that of its run, which belongs to the best checkpoint."""
    model = detector.description.config.model
    kind = model.name if model.source is None else Path(model.source).name  # no folder of the writer's computer
    facts = [] if kind == Path(name).name else [kind]
    best_ap = _best_ap(find_checkpoint(checkpoint))
    if best_ap is not None:
        facts.insert(0, f"AP {best_ap:.3f}")
    if model.source is None:
        layers = f"{model.encoder_layers} + {model.decoder_layers} layers"
        strides = f"stride{'s' if len(model.strides) > 1 else ''} {', '.join(map(str, model.strides))}"
        facts += [model.backbone, layers, f"{model.heads} heads", f"dim {model.dim}", strides]
    return ExploredModel(printable(name), detector.class_names, tuple(map(printable, facts)))


def names_of(checkpoints: Sequence[Path]) -> list[str]:
    """Short and different: the run folder, the file where runs are the same, with a number where both are."""
    paths = [find_checkpoint(path) for path in checkpoints]
    runs = [_run_of(path) for path in paths]
    names = [path.stem if run is None else run.name for path, run in zip(paths, runs, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{name} {path.name}" for name, path in zip(names, paths, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{number} {name}" for number, name in enumerate(names, 1)]
    return names


def training_frames(run: Path) -> list[TrainingFrame]:
    """Pictures of a run at its evaluations, evenly spaced, the first and the last among them; none if it drew none.

    Errors: a folder that is none; a picture that cannot be read.
    """
    if not run.is_dir():
        raise DetrLiteError(f"{printable(run)}: no such run folder")
    notes = _notes(run / TABLE)
    frames = []
    files = {int(file.stem.removeprefix("step-")): file for file in (run / FRAMES).glob("step-*.png")}
    steps = sorted(files)
    last, count = len(steps) - 1, min(MOST_FRAMES, len(steps))
    for step in [steps[number * last // max(1, count - 1)] for number in range(count)]:
        file = files[step]
        try:
            with Image.open(file) as picture:
                frames.append(TrainingFrame(step, notes.get(step, ""), encode_picture(picture, WIDEST)))
        except OSError as error:
            raise DetrLiteError(f"{printable(file)}: cannot be read: {reason_of(error)}") from error
    return frames


def run_beside(checkpoint: Path) -> Path | None:
    """The run folder of a checkpoint, if it has pictures of attention in training."""
    run = _run_of(find_checkpoint(checkpoint))
    return run if run is not None and (run / FRAMES).is_dir() else None


def _run_of(checkpoint: Path) -> Path | None:
    return checkpoint.resolve().parent.parent if checkpoint.parent.name == CHECKPOINTS else None


def _best_ap(checkpoint: Path) -> float | None:
    run = _run_of(checkpoint)
    if run is None or checkpoint.name != BEST:
        return None
    try:
        value = json.loads((run / "evaluation" / "metrics.json").read_text(encoding="utf-8")).get("AP")
    except (OSError, ValueError, AttributeError):
        return None
    return float(value) if isinstance(value, int | float) else None


def _notes(table: Path) -> dict[int, str]:
    """By step, such as "AP 0.649"."""
    if not table.is_file():
        return {}
    with table.open(newline="", encoding="utf-8") as file:
        return {int(row["step"]): f"AP {float(row['AP']):.3f}" for row in csv.DictReader(file) if row.get("AP")}
