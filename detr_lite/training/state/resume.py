"""Resuming a run: which checkpoint to load, and which settings and data have to be as they were."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
from lightning.pytorch import Callback

from detr_lite.build import require
from detr_lite.config import Invocation, config_to_dict
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
class TrainingState:
    """The checkpoint that a run of any task is resumed from."""

    path: Path
    step: int
    """Completed optimizer steps."""
    epochs: int
    """Completed epochs."""
    fingerprint: DataFingerprint


@dataclass(frozen=True)
class ResumePoint(TrainingState):
    """That of a detector's run."""

    description: Description


State = TypeVar("State", bound=TrainingState)


class DescribeCheckpoint(Callback):
    """Adds to each checkpoint what is needed to use it anywhere and to resume from it.

    Args:
        content: plain types, by their keys in the checkpoint.
        restarts_epoch: start the epoch again that the loaded checkpoint was written in.
        moved_to: folder of the resumed run's checkpoints, which may have had another name when they were written.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        fingerprint: DataFingerprint,
        restarts_epoch: bool = False,
        moved_to: Path | None = None,
    ) -> None:
        self.content = dict(content)
        self.fingerprint = fingerprint
        self.restarts_epoch = restarts_epoch
        self.moved_to = moved_to

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint.update(self.content)
        checkpoint[RUN_KEY] = vars(self.fingerprint)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.restarts_epoch:
            _restart_epoch(checkpoint)
        if self.moved_to is not None:
            move_best_checkpoint(checkpoint, self.moved_to)
        forget_missing_best(checkpoint)


def find_resume_point(invocation: Invocation) -> ResumePoint | None:
    """The checkpoint of a detector's run that `--resume` stands for, as `find_training_state` finds it."""
    return find_training_state(invocation, _read)


def find_training_state(invocation: Invocation, read: Callable[[Path], State]) -> State | None:
    """The checkpoint that `--resume` stands for; if the last one is damaged, the one before it, with a warning.

    Args:
        read: reads a checkpoint, of which nothing else knows what it holds.

    None for a new run, or one that ended before its first checkpoint.
    Errors: there is none, or none can be read; a checkpoint of weights without training state.
    """
    candidates = checkpoints_to_resume(invocation)
    if invocation.resume is None:
        return None
    if invocation.resume != "last":
        return read(candidates[0])
    if not candidates:
        logger.info("%s ended before its first checkpoint: starting from the beginning", run_to_resume(invocation))
        return None
    errors: list[DetrLiteError] = []
    for path in candidates:
        try:
            point = read(path)
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
    before, after = flat_settings(config_to_dict(saved.config)), flat_settings(config_to_dict(now.config))
    # Where the first weights came from no longer matters.
    fixed = [name for name in before if name.startswith("model.") and name != "model.init_from"]
    old = point.fingerprint
    changes = [*compare_settings(path, before, after, (*fixed, *FIXED_SETTINGS)), *compare_data(old, fingerprint, "AP")]
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


def compare_settings(
    path: Path, before: Mapping[str, Any], after: Mapping[str, Any], fixed: Iterable[str]
) -> list[str]:
    """A line for each setting that has changed since a checkpoint.

    Errors: one of those that are `fixed`.
    """
    for name in fixed:
        if before.get(name) != after.get(name):
            raise DetrLiteError(
                f"{path}: was trained with {name} {before.get(name)}, not {after.get(name)}; a resumed run keeps it"
            )
    return [f"{name} {after.get(name)} (was {before[name]})" for name in before if before[name] != after.get(name)]


def compare_data(old: DataFingerprint, now: DataFingerprint, metric: str) -> list[str]:
    """A line for each way in which data or processes have changed since a checkpoint."""
    compared = (
        ("the training data", old.train, now.train),
        (f"the validation data, so {metric} is not comparable with before", old.val, now.val),
        ("the number of processes", old.world_size, now.world_size),
    )
    return [f"{what}: {value} (was {was})" for what, was, value in compared if was != value]


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
    state = training_state(content, path, f"--model.init_from {path}")
    return ResumePoint(**vars(state), description=describe_checkpoint(content, path))


def training_state(content: Mapping[str, Any], path: Path, remedy: str) -> TrainingState:
    """What a checkpoint of any task has beside its weights and settings.

    Errors: part of it is missing.

    Args:
        remedy: what a new run can be started with instead.
    """
    try:
        step, saved = int(content["global_step"]), content[RUN_KEY]
        epochs = completed_epochs(dict(content))
        if not content["optimizer_states"] or not isinstance(content["callbacks"], dict):
            raise ValueError("no state of the optimizer or of the callbacks")
        fingerprint = DataFingerprint(str(saved["train"]), str(saved["val"]), int(saved["world_size"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DetrLiteError(
            f"--resume: {path} lacks part of the training state ({reason_of(error)}); start a new run with {remedy}"
        ) from error
    return TrainingState(path, step, epochs, fingerprint)


def flat_settings(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their names on the command line."""
    flat: dict[str, Any] = {}
    for section, settings in sections.items():
        if isinstance(settings, dict):
            flat.update({f"{section}.{name}": value for name, value in settings.items()})
        else:
            flat[section] = settings
    return flat
