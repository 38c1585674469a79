"""Lightning's trainer for any task: its hardware, its optimizer, and all callbacks in the order that they need."""

import functools
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch import nn

from detr_lite.build import require
from detr_lite.config import Config, OptimConfig
from detr_lite.structures import DetrLiteError
from detr_lite.training.auto import device_type
from detr_lite.training.callbacks.metrics import COCO_METRICS, LoggedMetrics, MetricsFile, ProgressReporter
from detr_lite.training.callbacks.thread_tuner import ThreadTuner
from detr_lite.training.checks.diagnostics import EarlyStopping
from detr_lite.training.checks.step_guard import StepGuard
from detr_lite.training.distributed.launch import Launch, ProcessSupervisor
from detr_lite.training.ema import MovingAverage
from detr_lite.training.lightning_internals import NEVER
from detr_lite.training.optim import lr_factor, make_optimizer, parameter_groups
from detr_lite.training.schedule import LRSchedule, StepSeed, TrainingProgress
from detr_lite.training.state.checkpoint import AtomicCheckpointIO, PeriodicCheckpoint
from detr_lite.training.state.resume import DescribeCheckpoint
from detr_lite.training.state.run_files import BEST
from detr_lite.training.threads import fixed_threads


@dataclass(frozen=True)
class Task:
    """What the engine trains: any module with its criterion, its data, and what only this task knows."""

    module: L.LightningModule
    """With the trained network as `model`, which alone has parameters."""
    data: L.LightningDataModule
    guard: StepGuard
    """The module's own, which reports losses and gradients to it."""
    callbacks: tuple[L.Callback, ...]
    """Those of this task alone; they see the weights that are evaluated."""
    monitor: str | None
    """The metric whose best value makes the best checkpoint; None where the data allow no such metric."""
    out_of_memory: Callable[[torch.device], DetrLiteError]
    """What to say when the memory of that device was too small for a step."""
    overfit_check: Callable[[torch.device], None] | None = None
    """Raises DetrLiteError if a few images cannot be learned on that device."""
    metrics: LoggedMetrics = COCO_METRICS
    notes: tuple[str, ...] = ()
    """Where the initial weights are from."""


def build_callbacks(
    config: Config,
    folder: Path,
    task: Task,
    progress: TrainingProgress,
    supervisor: ProcessSupervisor,
    describe: DescribeCheckpoint,
    last: PeriodicCheckpoint,
) -> list[L.Callback]:
    """All callbacks of a run. Lightning calls them in this order at each event."""
    optim, patience = config.optim, config.trainer.patience
    average = [MovingAverage(optim.ema_decay, optim.ema_tau)] if optim.ema_decay else []
    stopping = (
        [EarlyStopping(task.monitor, patience, progress, task.metrics.mode)]
        if patience is not None and task.monitor is not None
        else []
    )
    best = ModelCheckpoint(
        dirpath=last.folder,
        filename=Path(BEST).stem,
        monitor=task.monitor,  # without one, each evaluation's checkpoint replaces the one before
        mode=task.metrics.mode,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    return [
        supervisor,  # first: it must know the other processes before anything can fail
        task.guard,  # before all that save, so that no checkpoint holds a step that was not finite
        describe,  # changes a loaded checkpoint before the others restore their state from it
        *progress_callbacks(config, progress, folder, task.metrics),
        ThreadTuner(fixed_threads(config.trainer.threads)),  # its clock stops before the callbacks below do their work
        *task.callbacks,  # after the log, at whose steps they read the losses, and before the average: it restores the
        *average,  # weights being trained as soon as an evaluation ends
        *stopping,  # after `progress`, which decides first whether a resumed run is over
        best,  # Lightning calls checkpoint callbacks last in any case: they save the others' state
        last,  # after `best`, so that last.ckpt knows which checkpoint is the best
    ]


def progress_callbacks(
    config: Config, progress: TrainingProgress, folder: Path, metrics: LoggedMetrics = COCO_METRICS
) -> list[L.Callback]:
    """Of every training: progress first, since seeds, learning rates and the log depend on it."""
    optim = config.optim
    factor = functools.partial(
        lr_factor, schedule=optim.schedule, lr_hold=optim.lr_hold, warmup_steps=optim.warmup_steps
    )
    file, reporter = (
        MetricsFile(folder / "metrics.csv", progress, metrics=metrics),
        ProgressReporter(progress, metrics=metrics),
    )
    return [progress, StepSeed(config.seed), LRSchedule(progress, factor), file, reporter]


def build_trainer(
    config: Config, precision: str, folder: Path, callbacks: Sequence[L.Callback], logger: Logger | None
) -> L.Trainer:
    """Args:
        precision: as `choose_precision` returns it.

    Errors: hardware or processes that do not exist.
    """
    launch = Launch.detect()
    try:
        trainer = L.Trainer(
            **trainer_settings(config, precision, folder),
            devices=launch.devices(config.trainer.devices),
            num_nodes=launch.num_nodes(config.trainer.num_nodes),
            plugins=[AtomicCheckpointIO(), *launch.plugins],
            callbacks=list(callbacks),
            logger=logger or False,
            # What ours replace, where a trainer is built without callbacks.
            enable_checkpointing=bool(callbacks),
            enable_progress_bar=bool(callbacks),
        )
    except (ImportError, TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        # Only the hardware in the settings can be wrong here.
        raise DetrLiteError(f"trainer: {' '.join(str(error).split())}") from error
    launch.check(trainer)
    return trainer


def count_processes(config: Config, precision: str, folder: Path) -> int:
    """The number of processes that a run with these settings has, as Lightning counts them.

    Errors: as `build_trainer`.
    """
    return build_trainer(config, precision, folder, callbacks=(), logger=None).world_size


def trainer_settings(config: Config, precision: str, folder: Path) -> dict[str, Any]:
    """Lightning's arguments for every training, of reference models too."""
    return {
        "accelerator": device_type(config.trainer.accelerator),
        "precision": precision,
        "max_epochs": -1 if config.trainer.max_epochs is None else config.trainer.max_epochs,
        "accumulate_grad_batches": config.optim.accumulate_grad_batches or 1,
        # `TrainingProgress` decides when to evaluate.
        "val_check_interval": NEVER,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }


def run_optimizer(model: nn.Module, config: OptimConfig, fused: bool) -> torch.optim.Optimizer:
    """The optimizer of a run whose open settings have been chosen."""
    factor = 1.0 if config.backbone_lr_factor is None else config.backbone_lr_factor
    lr = require("optim.lr", config.lr)
    name = config.optimizer or "adamw"
    groups = parameter_groups(model, lr, factor, config.weight_decay, config.decay_all, name)
    return make_optimizer(groups, fused, name)


def silence_lightning() -> None:
    """Hide Lightning's greetings and its hints at settings that are chosen here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*lightning.*")
