"""A run that goes on: which checkpoint, and what must be as it was."""

from dataclasses import dataclass
from pathlib import Path

from detr_lite.config import Invocation, config_to_dict
from detr_lite.structures import DetrLiteError
from detr_lite.weights.checkpoint import Description, describe_checkpoint, read_checkpoint


@dataclass(frozen=True)
class Resumed:
    """The checkpoint that a run goes on from."""

    path: Path
    description: Description
    step: int
    """Optimiser steps done."""


def find_resumed(invocation: Invocation) -> Path | None:
    """The checkpoint that `--resume` means."""
    if invocation.resume is None:
        return None
    if invocation.resume != "last":
        path = Path(invocation.resume)
    else:
        path = (invocation.run_dir or Path("runs") / invocation.config_name) / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise DetrLiteError(f"--resume: {path} does not exist; name the run with --run_dir, or a checkpoint")
    return path


def read_resumed(path: Path) -> Resumed:
    """Errors: weights alone, with nothing of the training that they come from."""
    content = read_checkpoint(path)
    if "global_step" not in content:
        raise DetrLiteError(f"--resume: {path} holds weights alone; begin a new run with --model.init_from {path}")
    return Resumed(path, describe_checkpoint(content, path), int(content["global_step"]))


def check_unchanged(resumed: Resumed, now: Description) -> None:
    """A resumed run keeps what its weights and its optimiser were made for."""
    path, saved = resumed.path, resumed.description
    if saved.categories != now.categories:
        raise DetrLiteError(f"{path}: was trained for other categories than those of {now.config.data.root}")
    before, after = config_to_dict(saved.config), config_to_dict(now.config)
    # Where a run's first weights came from does not matter any more.
    kept = [f"model.{name}" for name in before["model"] if name != "init_from"]
    kept += ["data.image_size", "data.resize", "optim.lr", "optim.backbone_factor", "optim.weight_decay"]
    kept += ["optim.decay_all", "optim.ema", "optim.ema_ramp_steps"]
    for name in kept:
        section, setting = name.split(".")
        old, new = before[section][setting], after[section][setting]
        if old != new:
            raise DetrLiteError(f"{path}: was trained with {name} {old}, not {new}; a resumed run keeps it")
