"""A run from settings to a trained, evaluated detector: resolve, describe, then what `fit` has for every task."""

import functools
import logging
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from detr_lite.config import Invocation, config_to_dict, write_config
from detr_lite.data.reading import write_report
from detr_lite.data.records import Split
from detr_lite.evaluation.coco_map import limit_note
from detr_lite.structures import DetrLiteError
from detr_lite.text import command_line, printable
from detr_lite.training.auto import keep_choices
from detr_lite.training.checks.nan_capture import replay
from detr_lite.training.closing import finish
from detr_lite.training.datamodule import allow_open_files
from detr_lite.training.detection import detection_task, read_data
from detr_lite.training.distributed.launch import ProcessSupervisor
from detr_lite.training.distributed.signals import StopSignals
from detr_lite.training.draw_augmented import draw_augmented
from detr_lite.training.fit import Assembled, RunPlace, assemble, fit, log_batches, log_model
from detr_lite.training.logged_ap import LoggedAP
from detr_lite.training.loggers import start_logger
from detr_lite.training.memory.batch_size import fit_batch_size
from detr_lite.training.precision import choose_precision, keep_precision, settle_precision
from detr_lite.training.schedule import TrainingProgress
from detr_lite.training.state.resume import (
    DataFingerprint,
    DescribeCheckpoint,
    ResumePoint,
    check_unchanged,
    find_resume_point,
)
from detr_lite.training.state.run_files import BEST, run_of
from detr_lite.training.state.run_folder import choose_folder
from detr_lite.training.tf32 import uses_tf32
from detr_lite.training.threads import set_fixed_threads
from detr_lite.training.trainer import Task, count_processes, silence_lightning
from detr_lite.weights.checkpoint import KEY, Description
from detr_lite.weights.init import model_title, new_description

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resolved(RunPlace):
    """What a run consists of before anything of it is built."""

    resumed: ResumePoint | None
    train: Split
    val: Split


@dataclass(frozen=True)
class Described:
    """What a checkpoint must know, and how that differs from the one that the run resumes from."""

    description: Description
    callback: DescribeCheckpoint
    changes: tuple[str, ...]


def train(invocation: Invocation) -> None:
    """Train, evaluate the best checkpoint and draw pictures, all in the run folder; or replay a captured batch, or draw
    training images."""
    if invocation.replay is not None:
        replay(invocation.replay)
        return
    if invocation.draw_augmented is not None:
        draw_augmented(invocation.config, invocation.draw_augmented)
        return
    silence_lightning()
    allow_open_files()
    with StopSignals() as signals, ProcessSupervisor() as supervisor:
        resolved = resolve(invocation)
        described = describe(resolved)
        make_task = functools.partial(_make_task, resolved, described)
        assembled = assemble(resolved, described.callback, signals, supervisor, make_task)
        fit(
            resolved,
            assembled,
            f"{command_line('train')} --config {shlex.quote(str(resolved.folder))}/config.yaml",
            start=lambda: _start(resolved, described, assembled),
            finish=lambda: finish(resolved.folder, resolved.config, _logged_ap(assembled), assembled.run_logger),
        )


def resolve(invocation: Invocation) -> Resolved:
    """Settings, data, hardware and folder. Nothing is written but the default dataset, if it does not exist."""
    resumed = find_resume_point(invocation)
    folder = choose_folder(invocation, None if resumed is None else resumed.path)
    given = invocation.config
    if resumed is not None:
        given = keep_precision(keep_choices(given, resumed.description.config), resumed.description.config)
    set_fixed_threads(given.trainer.threads)
    # Before the data: the learning rate is chosen for the batches of all processes.
    precision = choose_precision(given.trainer.precision, given.trainer.accelerator)
    world_size = count_processes(given, precision, folder)
    config, train_split, val_split = read_data(given, world_size)
    if world_size == 1:  # several would not time alike, and must agree: there the capabilities of the CPU decide
        config = settle_precision(config, train_split, val_split)
        precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    config = fit_batch_size(config, given, train_split, precision, world_size)
    resolved = Resolved(
        invocation=invocation,
        config=config,
        folder=folder,
        train=train_split,
        val=val_split,
        precision=precision,
        world_size=world_size,
        resumed=resumed,
    )
    _refuse_lost_start(resolved)
    return resolved


def describe(resolved: Resolved) -> Described:
    """The description that goes into each checkpoint, compared with that of the checkpoint to resume from."""
    config, resumed, train_split = resolved.config, resolved.resumed, resolved.train
    if resumed is None or config.model.source is None:
        description = new_description(config, train_split.categories)
    else:  # without its source, which may be gone
        description = replace(resumed.description, config=config, categories=train_split.categories)
    fingerprint = DataFingerprint.of(train_split, resolved.val, resolved.world_size)
    # Thresholds belong to the weights that were evaluated, not to those that are trained from them.
    content = {KEY: replace(description, thresholds=None).to_dict()}
    if resumed is None:
        return Described(description, DescribeCheckpoint(content, fingerprint), ())
    changes, restarts_epoch = check_unchanged(resumed, description, fingerprint)
    _refuse_complete(resumed, resolved)
    callback = DescribeCheckpoint(content, fingerprint, restarts_epoch, resolved.moved_to)
    return Described(description, callback, tuple(changes))


def _make_task(resolved: Resolved, described: Described, progress: TrainingProgress) -> Task:
    return detection_task(
        described.description,
        resolved.train,
        resolved.val,
        progress,
        resolved.precision,
        resolved.folder,
        is_resumed=resolved.resumed is not None,
        processes=resolved.world_size,
    )


def _logged_ap(assembled: Assembled) -> LoggedAP | None:
    """The AP that made the best checkpoint the best; None where there is no AP."""
    trainer, score = assembled.trainer, assembled.best_score
    if score is None:
        return None
    device = trainer.strategy.root_device
    return LoggedAP(score, uses_tf32(trainer.precision, device), device.type)


def _refuse_lost_start(resolved: Resolved) -> None:
    """Errors: rank 0 would remove the weights of `--model.init_from` before the other processes have read them."""
    path = resolved.config.model.init_from
    if path is None or not resolved.invocation.overwrite or resolved.world_size == 1:
        return
    if Path(path).resolve().is_relative_to(resolved.folder.resolve()):
        raise DetrLiteError(f"--model.init_from {path} is in the run that --overwrite removes; move it elsewhere")


def _refuse_complete(resumed: ResumePoint, resolved: Resolved) -> None:
    """Errors: no epoch is left to train. In its own folder a complete run may still lack its evaluation."""
    epochs = resolved.config.trainer.max_epochs
    if epochs is None or resumed.epochs < epochs or (resolved.in_own_folder and resumed.epochs == epochs):
        return
    if resumed.epochs > epochs:
        raise DetrLiteError(f"{resumed.path}: has {resumed.epochs} epochs already; give more --trainer.max_epochs")
    raise DetrLiteError(
        f"{resumed.path}: that run is complete after {epochs} epochs, so nothing is left to do in {resolved.folder}; "
        f"its results are in {run_of(resumed.path)}; give more --trainer.max_epochs to train on"
    )


def _start(resolved: Resolved, described: Described, assembled: Assembled) -> None:
    config, task = resolved.config, assembled.task
    write_config(config, resolved.folder / "config.yaml")
    write_report(resolved.folder / "data_report.json", (resolved.train, resolved.val))
    log_model(assembled, model_title(config.model))
    log_batches(resolved, config.data.batch_size)
    for change in described.changes:
        logger.info(f"changed since the checkpoint: {printable(change)}")
    limit = limit_note(resolved.val.ground_truth)
    if limit is not None:
        logger.info(f"{resolved.val.report.source}: {limit}")
    if task.monitor is None:
        stopping = "" if config.trainer.patience is None else ", and --trainer.patience has no effect"
        logger.warning(
            f"{resolved.val.report.source}: has no objects, so there is no AP: {BEST} will be the checkpoint of the "
            f"last evaluation{stopping}"
        )
    if assembled.run_logger is not None:
        start_logger(assembled.run_logger, config_to_dict(config))
