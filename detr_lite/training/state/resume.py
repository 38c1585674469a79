"""A run that goes on: from which checkpoint, and what must be, and what is no longer, as it was."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch import Callback

from detr_lite.config import Config, Invocation, config_to_dict
from detr_lite.data.coco import CocoSplit
from detr_lite.structures import DetrLiteError
from detr_lite.text import reason_of
from detr_lite.training.lightning_internals import (
    completed_epochs,
    forget_missing_best,
    move_best_checkpoint,
    rewind_to_epoch_start,
)
from detr_lite.training.state.checkpoint import BEST, LAST, PREVIOUS
from detr_lite.weights.checkpoint import KEY, Description, describe_checkpoint, read_checkpoint

RUN_KEY = "detr_lite_run"
"""Where the facts of a run stand in its checkpoints, beside the description of its model."""

ORDER = ("seed", "data.batch_size")
"""Settings on which it depends which images make the next batch."""


@dataclass(frozen=True)
class RunFacts:
    """What the rest of an interrupted epoch depends on, beside the settings."""

    train: str
    """Tells two states of the training annotations apart, for people and for programs; pixels are not compared."""
    val: str
    world_size: int

    @staticmethod
    def of(train: CocoSplit, val: CocoSplit, world_size: int) -> "RunFacts":
        return RunFacts(_identity(train), _identity(val), world_size)


@dataclass(frozen=True)
class Resumed:
    """The checkpoint that a run goes on from."""

    path: Path
    description: Description
    step: int
    """Optimiser steps done."""
    epochs: int
    """Epochs done."""
    facts: RunFacts | None
    """None in checkpoints of earlier versions."""


class DescribeCheckpoint(Callback):
    """Puts into each checkpoint what is needed to use it anywhere, and to go on from it.

    Args:
        restarts_epoch: begin an epoch anew that the loaded checkpoint was written in.
        moved_to: where the checkpoints lie of the run that goes on; its folder may have had another name.
    """

    def __init__(
        self, description: Description, facts: RunFacts, restarts_epoch: bool = False, moved_to: Path | None = None
    ) -> None:
        self.description = description
        self.facts = facts
        self.restarts_epoch = restarts_epoch
        self.moved_to = moved_to

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.description.to_dict()
        checkpoint[RUN_KEY] = vars(self.facts)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.restarts_epoch:
            enter_epoch_anew(checkpoint)
        if self.moved_to is not None:
            move_best_checkpoint(checkpoint, self.moved_to)
        forget_missing_best(checkpoint)


def find_resumed(invocation: Invocation) -> Resumed | None:
    """The checkpoint that `--resume` means; where the last one is damaged, the one before it, and it is said.

    None for a new run, or one that ended before there was any.
    Errors: none is there, or none can be read; one of weights alone, with nothing of their training.
    """
    if invocation.resume is None:
        return None
    if invocation.resume != "last":
        path = Path(invocation.resume)
        if path.is_dir():
            raise DetrLiteError(f"--resume: {path} is a folder; name a checkpoint in it, or: --run_dir {path} --resume")
        if not path.is_file():
            raise DetrLiteError(f"--resume: {path} does not exist; name the run with --run_dir, or a checkpoint")
        return _read(path)
    run = invocation.run_dir or Path("runs") / invocation.config_name
    folder = run / "checkpoints"
    there = [folder / name for name in (LAST, PREVIOUS, BEST) if (folder / name).is_file()]
    if not there and (run / "config.yaml").is_file():
        print(f"resume     {run} ended before its first checkpoint, and begins anew", flush=True)
        return None
    if not there:
        raise DetrLiteError(f"--resume: {folder / LAST} does not exist; name the run with --run_dir, or a checkpoint")
    faults: list[DetrLiteError] = []
    for path in there:
        try:
            resumed = _read(path)
        except DetrLiteError as error:
            faults.append(error)
            continue
        for fault in faults:
            print(f"damaged    {fault}")
        instead = "" if path.name == LAST else " instead"
        print(f"resume     from {path}{instead}, at step {resumed.step:,}", flush=True)
        return resumed
    others = f"; nor can {' and '.join(path.name for path in there[1:])} be used" if there[1:] else ""
    raise DetrLiteError(f"{faults[0]}{others}; begin anew with --overwrite")


def check_unchanged(resumed: Resumed, now: Description, facts: RunFacts) -> tuple[list[str], bool]:
    """A resumed run keeps what its weights and its optimiser were made for; other changes are named.

    Returns a line for each change, and whether an epoch that was left in its middle must be begun anew, because its
    remaining batches are not the same any more.
    """
    path, saved = resumed.path, resumed.description
    if saved.categories != now.categories:
        raise DetrLiteError(f"{path}: was trained for other categories than those of {now.config.data.root}")
    before, after = _flat(saved.config), _flat(now.config)
    # Where a run's first weights came from does not matter any more.
    kept = [name for name in before if name.startswith("model.") and name != "model.init_from"]
    kept += ["data.image_size", "data.resize", "optim.optimizer", "optim.lr", "optim.backbone_lr_factor"]
    kept += ["optim.weight_decay", "optim.decay_all", "optim.ema_decay", "optim.ema_tau"]
    for name in kept:
        if before[name] != after[name]:
            raise DetrLiteError(
                f"{path}: was trained with {name} {before[name]}, not {after[name]}; a resumed run keeps it"
            )
    changes = [f"{name} {after[name]} (was {before[name]})" for name in before if before[name] != after[name]]
    is_other_order = any(before[name] != after[name] for name in ORDER)
    if resumed.facts is not None:
        for what, old, new in (
            ("the training data", resumed.facts.train, facts.train),
            ("the validation data, so AP is not comparable with before", resumed.facts.val, facts.val),
            ("the number of processes", str(resumed.facts.world_size), str(facts.world_size)),
        ):
            if old != new:
                changes.append(f"{what}: {new} (was {old})")
        is_other_order |= (resumed.facts.train, resumed.facts.world_size) != (facts.train, facts.world_size)
    if is_other_order:
        changes.append("batches are others than before; an epoch that was interrupted is begun anew")
    return changes, is_other_order


def enter_epoch_anew(checkpoint: dict[str, Any]) -> None:
    """Change a checkpoint saved within an epoch into one of that epoch's start; no step is forgotten."""
    if rewind_to_epoch_start(checkpoint):
        checkpoint["callbacks"].get("TrainingProgress", {})["is_pending"] = False


def _read(path: Path) -> Resumed:
    content = read_checkpoint(path)
    if "global_step" not in content:
        raise DetrLiteError(f"--resume: {path} holds weights alone; begin a new run with --model.init_from {path}")
    try:
        step, facts = int(content["global_step"]), content.get(RUN_KEY)
        epochs = completed_epochs(content)
        if not content["optimizer_states"] or not isinstance(content["callbacks"], dict):
            raise ValueError("no state of the optimiser, or of what goes with it")
        told = None if facts is None else RunFacts(str(facts["train"]), str(facts["val"]), int(facts["world_size"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DetrLiteError(
            f"--resume: {path} does not hold a run's whole state ({reason_of(error)}); begin a new run with "
            f"--model.init_from {path}"
        ) from error
    return Resumed(path, describe_checkpoint(content, path), step, epochs, told)


def _identity(split: CocoSplit) -> str:
    digest = hashlib.sha256()
    for image in split.images:
        digest.update(f"{image.id} {image.path.name} {image.width} {image.height}".encode())
        digest.update(image.boxes_xyxy.tobytes())
        digest.update(image.labels.tobytes())
    objects = sum(len(image.labels) for image in split.images)
    return f"{len(split.images):,} images with {objects:,} objects, state {digest.hexdigest()[:8]}"


def _flat(config: Config) -> dict[str, Any]:
    """Settings under the names that they have on the command line."""
    flat: dict[str, Any] = {}
    for section, settings in config_to_dict(config).items():
        if isinstance(settings, dict):
            flat.update({f"{section}.{name}": value for name, value in settings.items()})
        else:
            flat[section] = settings
    return flat
