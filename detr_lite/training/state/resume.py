"""Resuming a run: which checkpoint to load, and which settings and data have to be as they were."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch import Callback

from detr_lite.build import require
from detr_lite.config import Config, Invocation, config_to_dict
from detr_lite.data.fingerprint import fingerprint
from detr_lite.data.records import Split
from detr_lite.structures import Category, DetrLiteError
from detr_lite.text import printable, reason_of, shorten_list
from detr_lite.training.default_lr import images_in_step
from detr_lite.training.lightning_internals import (
    completed_epochs,
    forget_missing_best,
    move_best_checkpoint,
    rewind_to_epoch_start,
)
from detr_lite.training.schedule import TrainingProgress
from detr_lite.training.state.run_files import checkpoints_to_resume, run_to_resume
from detr_lite.weights.checkpoint import KEY, Description, describe_checkpoint, read_checkpoint
from detr_lite.weights.upgrade import FORMAT

RUN_KEY = "detr_lite_run"
"""Key of the data fingerprint in a checkpoint, beside the description of the model."""

BATCH_SETTINGS = ("seed", "data.batch_size")
"""Settings that decide which images make up the next batch."""

FIXED_SETTINGS = (
    *("data.image_size", "data.resize", "optim.optimizer", "optim.lr", "optim.backbone_lr_factor"),
    *("optim.weight_decay", "optim.decay_all", "optim.ema_decay", "optim.ema_tau"),
)
"""Settings that a resumed run keeps, beside those of the model."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataFingerprint:
    """What the batches of an epoch depend on beside the settings: the data, and how many processes share them."""

    train: str
    """Number of images and objects and a hash of the annotations, to be shown and compared; without the pixels."""
    val: str
    world_size: int

    @staticmethod
    def of(train: Split, val: Split, world_size: int) -> "DataFingerprint":
        return DataFingerprint(fingerprint(train), fingerprint(val), world_size)


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint that a run is resumed from."""

    path: Path
    description: Description
    step: int
    """Completed optimizer steps."""
    epochs: int
    """Completed epochs."""
    fingerprint: DataFingerprint


class DescribeCheckpoint(Callback):
    """Adds to each checkpoint what is needed to use it anywhere and to resume from it.

    Args:
        restarts_epoch: start the epoch again that the loaded checkpoint was written in.
        moved_to: folder of the resumed run's checkpoints, which may have had another name when they were written.
    """

    def __init__(
        self,
        description: Description,
        fingerprint: DataFingerprint,
        restarts_epoch: bool = False,
        moved_to: Path | None = None,
    ) -> None:
        # Thresholds belong to the weights that were evaluated, not to those that are trained from them.
        self.description = replace(description, thresholds=None)
        self.fingerprint = fingerprint
        self.restarts_epoch = restarts_epoch
        self.moved_to = moved_to

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.description.to_dict()
        checkpoint[RUN_KEY] = vars(self.fingerprint)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.restarts_epoch:
            _restart_epoch(checkpoint)
        if self.moved_to is not None:
            move_best_checkpoint(checkpoint, self.moved_to)
        forget_missing_best(checkpoint)


def find_resume_point(invocation: Invocation) -> ResumePoint | None:
    """The checkpoint that `--resume` stands for; if the last one is damaged, the one before it, with a warning.

    None for a new run, or one that ended before its first checkpoint.
    Errors: there is none, or none can be read; a checkpoint of weights without training state.
    """
    candidates = checkpoints_to_resume(invocation)
    if invocation.resume is None:
        return None
    if invocation.resume != "last":
        return _read(candidates[0])
    if not candidates:
        logger.info("%s ended before its first checkpoint: starting from the beginning", run_to_resume(invocation))
        return None
    errors: list[DetrLiteError] = []
    for path in candidates:
        try:
            point = _read(path)
        except DetrLiteError as error:
            errors.append(error)
            continue
        for damage in errors:
            logger.warning("%s", damage)
        logger.info("resuming from %s at step %s", path, f"{point.step:,}")
        return point
    others = f"; nor can {' and '.join(path.name for path in candidates[1:])} be used" if candidates[1:] else ""
    raise DetrLiteError(f"{errors[0]}{others}; start again with --overwrite")


def _category_changes(saved: Sequence[Category], now: Sequence[Category]) -> str:
    before, after = ([printable(category.name) for category in each] for each in (saved, now))
    added, gone = [name for name in after if name not in before], [name for name in before if name not in after]
    parts = [f"{what}: {shorten_list(names)}" for what, names in (("added", added), ("gone", gone)) if names]
    return "; ".join(parts) or ("other ids" if before == after else "another order")


def check_unchanged(point: ResumePoint, now: Description, fingerprint: DataFingerprint) -> tuple[list[str], bool]:
    """Compare a resumed run with its checkpoint.

    Returns a line for each change, and whether an epoch that was interrupted has to start again because its remaining
    batches are no longer the same.

    Errors: other categories; a changed setting that weights or optimizer state depend on.
    """
    path, saved = point.path, point.description
    if saved.categories != now.categories:
        raise DetrLiteError(
            f"{path}: was trained for other categories than those of {now.config.data.root} "
            f"({_category_changes(saved.categories, now.categories)}); undo that, or start another run"
        )
    before, after = _flat(saved.config), _flat(now.config)
    # Where the first weights came from no longer matters.
    fixed = [name for name in before if name.startswith("model.") and name != "model.init_from"]
    for name in (*fixed, *FIXED_SETTINGS):
        if before[name] != after[name]:
            raise DetrLiteError(
                f"{path}: was trained with {name} {before[name]}, not {after[name]}; a resumed run keeps it"
            )
    changes = [f"{name} {after[name]} (was {before[name]})" for name in before if before[name] != after[name]]
    old = point.fingerprint
    for what, was, value in (
        ("the training data", old.train, fingerprint.train),
        ("the validation data, so AP is not comparable with before", old.val, fingerprint.val),
        ("the number of processes", old.world_size, fingerprint.world_size),
    ):
        if was != value:
            changes.append(f"{what}: {value} (was {was})")
    if old.world_size != fingerprint.world_size:
        images = images_in_step(now.config, fingerprint.world_size)
        former = images_in_step(saved.config, old.world_size)
        kept = require("optim.lr", now.config.optim.lr)
        changes.append(f"images in a step: {images:,} (was {former:,}), for which optim.lr stays {kept:g}")
    restarts_epoch = any(before[name] != after[name] for name in BATCH_SETTINGS)
    restarts_epoch |= (old.train, old.world_size) != (fingerprint.train, fingerprint.world_size)
    if restarts_epoch:
        changes.append("the batches are no longer the same, so an interrupted epoch starts again")
    return changes, restarts_epoch


def _restart_epoch(checkpoint: dict[str, Any]) -> None:
    """Set the loops of a checkpoint saved within an epoch back to its start; the step count stays."""
    if rewind_to_epoch_start(checkpoint):
        checkpoint["callbacks"][TrainingProgress.__qualname__]["is_pending"] = False


def _read(path: Path) -> ResumePoint:
    content = read_checkpoint(path)
    if "global_step" not in content:
        raise DetrLiteError(f"--resume: {path} holds only weights; start a new run with --model.init_from {path}")
    if content[KEY]["format"] != FORMAT:
        raise DetrLiteError(
            f"--resume: {path} was written by an earlier version, whose optimizer has parameters that the model no "
            f"longer has; start a new run with --model.init_from {path}"
        )
    try:
        step, saved = int(content["global_step"]), content[RUN_KEY]
        epochs = completed_epochs(content)
        if not content["optimizer_states"] or not isinstance(content["callbacks"], dict):
            raise ValueError("no state of the optimizer or of the callbacks")
        fingerprint = DataFingerprint(str(saved["train"]), str(saved["val"]), int(saved["world_size"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DetrLiteError(
            f"--resume: {path} lacks part of the training state ({reason_of(error)}); start a new run with "
            f"--model.init_from {path}"
        ) from error
    return ResumePoint(path, describe_checkpoint(content, path), step, epochs, fingerprint)


def _flat(config: Config) -> dict[str, Any]:
    """Settings by their names on the command line."""
    flat: dict[str, Any] = {}
    for section, settings in config_to_dict(config).items():
        if isinstance(settings, dict):
            flat.update({f"{section}.{name}": value for name, value in settings.items()})
        else:
            flat[section] = settings
    return flat
