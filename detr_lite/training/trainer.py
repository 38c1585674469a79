"""Lightning's trainer as a run has it: its optimiser, and the callbacks in the order that they need."""

import functools
import logging
import warnings
from collections.abc import Sequence
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
from detr_lite.data.coco import CocoSplit
from detr_lite.structures import DetrLiteError
from detr_lite.training.auto import default_lr
from detr_lite.training.callbacks.early_stopping import EarlyStopping
from detr_lite.training.callbacks.metrics import MetricsFile, ProgressReporter
from detr_lite.training.checks.diagnostics import Rate, TrainingDiagnostics
from detr_lite.training.checks.pace import PaceNotes
from detr_lite.training.distributed.launch import Launch
from detr_lite.training.ema import MovingAverage
from detr_lite.training.lightning_internals import NEVER
from detr_lite.training.optim import lr_factor, make_optimizer, parameter_groups
from detr_lite.training.schedule import LRSchedule, StepSeed, TrainingProgress
from detr_lite.training.state.checkpoint import BEST, AtomicCheckpointIO, PeriodicCheckpoint


def build_trainer(
    config: Config,
    precision: str,
    folder: Path,
    progress: TrainingProgress,
    last: PeriodicCheckpoint,
    logger: Logger | None,
    val: CocoSplit,
    watches: Sequence[L.Callback],
) -> L.Trainer:
    """With all that watches a run and keeps it.

    Args:
        precision: as `choose_precision` gives it.
        val: the validation images, which a stalled run is told about.
        watches: callbacks that look at the weights being trained, before an average takes their place.
    """
    optim = config.optim
    asked_for: list[L.Callback] = []
    if optim.ema_decay:
        asked_for.append(MovingAverage(optim.ema_decay, optim.ema_tau))
    if config.trainer.patience is not None:
        asked_for.append(EarlyStopping(config.trainer.patience, progress))
    try:
        launch = Launch.detect()
        trainer = L.Trainer(
            **trainer_settings(config, precision, folder),
            devices=launch.devices(config.trainer.devices),
            num_nodes=launch.num_nodes(config.trainer.num_nodes),
            logger=logger or False,
            plugins=[AtomicCheckpointIO(), *launch.plugins],
            callbacks=[
                *timekeepers(config, progress, folder),
                TrainingDiagnostics(
                    progress, val, Rate(require("optim.lr", optim.lr), default_lr(config)), optim.warmup_steps
                ),
                PaceNotes(progress),
                *watches,  # before the average, which leaves when an evaluation ends
                *asked_for,
                ModelCheckpoint(
                    dirpath=last.folder,
                    filename=Path(BEST).stem,
                    monitor="AP",
                    mode="max",
                    save_on_train_epoch_end=False,
                    enable_version_counter=False,
                ),
                last,
            ],
        )
    except (ImportError, TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        # What is left to be wrong here is the hardware asked for.
        raise DetrLiteError(f"trainer: {' '.join(str(error).split())}") from error
    launch.check(trainer)
    return trainer


def trainer_settings(config: Config, precision: str, folder: Path) -> dict[str, Any]:
    """Lightning's words for what every training has, also of other people's models."""
    return {
        "accelerator": config.trainer.accelerator,
        "precision": precision,
        "max_epochs": -1 if config.trainer.max_epochs is None else config.trainer.max_epochs,
        "accumulate_grad_batches": config.optim.accumulate_grad_batches,
        # The clock says when to evaluate.
        "val_check_interval": NEVER,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }


def timekeepers(config: Config, progress: TrainingProgress, folder: Path) -> list[L.Callback]:
    """Callbacks of every training, in their order: the clock, what goes by it, and its log."""
    optim = config.optim
    factor = functools.partial(
        lr_factor, schedule=optim.schedule, lr_hold=optim.lr_hold, warmup_steps=optim.warmup_steps
    )
    metrics = MetricsFile(folder / "metrics.csv", progress)
    return [progress, StepSeed(config.seed), LRSchedule(progress, factor), metrics, ProgressReporter(progress)]


def run_optimizer(model: nn.Module, config: OptimConfig, fused: bool) -> torch.optim.Optimizer:
    """The optimiser of a run whose open settings have been chosen."""
    share = 1.0 if config.backbone_lr_factor is None else config.backbone_lr_factor
    rate = require("optim.lr", config.lr)
    name = config.optimizer or "adamw"
    groups = parameter_groups(model, rate, share, config.weight_decay, config.decay_all, name)
    return make_optimizer(groups, fused, name)


def silence_lightning() -> None:
    """Lightning's greetings and its hints at settings that are ours to choose."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*lightning.*")
