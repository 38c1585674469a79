"""Every use of something that Lightning does not document, in one place.

Checked with lightning 2.6; pyproject.toml excludes later minor releases, and tests/training/test_lightning_internals.py
fails when one of these changes.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch.optim.swa_utils import AveragedModel

NEVER = sys.maxsize
"""A `val_check_interval` that no epoch reaches."""


def epoch_and_batch(trainer: L.Trainer) -> tuple[int, int]:
    """Index of the current or next epoch, and the number of its batches that have been processed."""
    epoch: Any = trainer.fit_loop.epoch_progress.current
    batch: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    # Not "completed", which is one less in a checkpoint saved at the end of a step.
    return epoch.processed, batch.processed if epoch.started > epoch.processed else 0


def set_evaluation_due(trainer: L.Trainer, is_due: bool) -> None:
    """Evaluate after the current batch, or not until this is called again."""
    trainer.val_check_batch = 1 if is_due else NEVER


def mark_evaluation_pending(checkpoint: dict[str, Any]) -> None:
    """Let a resumed run begin with an evaluation, as if this checkpoint were of that evaluation's first batch."""
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
    for count in (progress["total"], progress["current"]):
        count.update(ready=1, started=1, processed=0, completed=0)


def completed_epochs(checkpoint: dict[str, Any]) -> int:
    """Errors: KeyError, TypeError or ValueError for a checkpoint without the state of Lightning's loops."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])


def rewind_to_epoch_start(checkpoint: dict[str, Any]) -> bool:
    """Change a checkpoint saved within an epoch into one of that epoch's start; optimizer steps stay counted.

    Returns whether it was saved within an epoch.
    """
    loops = checkpoint["loops"]["fit_loop"]
    epoch = loops["epoch_progress"]
    if epoch["current"]["started"] == epoch["current"]["processed"]:
        return False
    for progress in (epoch["current"], epoch["total"]):
        done = progress["processed"]
        progress.update(ready=done, started=done, completed=done)
    for name in ("epoch_loop.batch_progress", "epoch_loop.val_loop.batch_progress"):
        loops[name]["current"].update(ready=0, started=0, processed=0, completed=0)
        loops[name]["is_last_batch"] = False
    return True


def move_best_checkpoint(checkpoint: dict[str, Any], folder: Path) -> None:
    """Set the folder of `ModelCheckpoint`'s files: it ignores its own state where the folder's name has changed."""
    for state in _model_checkpoint_states(checkpoint):
        moved = {path: str(folder / Path(path).name) for path in state["best_k_models"]}
        state["best_k_models"] = {moved[path]: score for path, score in state["best_k_models"].items()}
        for key in ("best_model_path", "kth_best_model_path"):
            state[key] = moved.get(state[key], state[key])
        state["dirpath"] = str(folder)


def forget_missing_best(checkpoint: dict[str, Any]) -> None:
    """Where the best checkpoint's file is gone, let the next evaluated one become the best."""
    for state in _model_checkpoint_states(checkpoint):
        if state.get("best_model_path") and not Path(state["best_model_path"]).is_file():
            state.update(best_k_models={}, best_model_path="", kth_best_model_path="", best_model_score=None)


def disable_signal_handlers(trainer: L.Trainer) -> None:
    """To be called before training.

    Lightning's handler of SIGTERM communicates with all processes from wherever the signal interrupts them, and under
    SLURM it may save a checkpoint of its own.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


def take_child_processes(trainer: L.Trainer) -> list[subprocess.Popen[bytes]]:
    """The processes that Lightning has started for the other ranks; it no longer watches them itself."""
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return []
    children = list(launcher.procs)
    launcher.procs.clear()
    return children


def set_average_model(callback: WeightAveraging, model: AveragedModel) -> None:
    """Let the callback average this model instead of a copy of the whole LightningModule."""
    callback._average_model = model


def drop_anonymous_setting(logger: WandbLogger) -> None:
    """W&B warns of this argument in every run, and Lightning passes it on even if it is not given."""
    logger._wandb_init.pop("anonymous", None)


def _model_checkpoint_states(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    return [state for name, state in checkpoint["callbacks"].items() if name.startswith("ModelCheckpoint")]
