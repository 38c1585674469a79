"""A run from settings to a trained, evaluated detector, in four steps: resolve, describe, assemble, fit and finish."""

import logging
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger

from detr_lite.config import Config, Invocation, config_to_dict, write_config
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
from detr_lite.training.distributed.control import ControlGroup
from detr_lite.training.distributed.launch import ProcessSupervisor, is_rank_0
from detr_lite.training.distributed.signals import Stopped, StopSignals
from detr_lite.training.draw_augmented import draw_augmented
from detr_lite.training.logged_ap import LoggedAP
from detr_lite.training.loggers import make_logger, start_logger, stop_logger
from detr_lite.training.memory.batch_size import fit_batch_size
from detr_lite.training.memory.out_of_memory import is_out_of_memory
from detr_lite.training.precision import choose_precision, keep_precision, settle_precision
from detr_lite.training.schedule import TrainingProgress
from detr_lite.training.state.checkpoint import PeriodicCheckpoint
from detr_lite.training.state.resume import (
    DataFingerprint,
    DescribeCheckpoint,
    ResumePoint,
    check_unchanged,
    find_resume_point,
)
from detr_lite.training.state.run_files import BEST, CHECKPOINTS, LAST, run_of
from detr_lite.training.state.run_folder import choose_folder, take_folder
from detr_lite.training.tf32 import OVERRIDE, tf32_matmuls, uses_tf32
from detr_lite.training.threads import set_fixed_threads
from detr_lite.training.trainer import Task, build_callbacks, build_trainer, count_processes, silence_lightning
from detr_lite.weights.checkpoint import Description
from detr_lite.weights.init import model_title, new_description

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resolved:
    """What a run consists of before anything of it is built."""

    invocation: Invocation
    config: Config
    """With all open settings chosen."""
    folder: Path
    train: Split
    val: Split
    precision: str
    world_size: int
    resumed: ResumePoint | None
    in_own_folder: bool
    """Whether a resumed run continues in the folder of its checkpoint."""


@dataclass(frozen=True)
class Described:
    """What a checkpoint must know, and how that differs from the one that the run resumes from."""

    description: Description
    callback: DescribeCheckpoint
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Assembled:
    """The task, and the trainer with all its callbacks."""

    task: Task
    trainer: L.Trainer
    run_logger: Logger | None


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
        assembled = assemble(resolved, described, signals, supervisor)
        fit_and_finish(resolved, described, assembled)


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
        in_own_folder=resumed is not None and run_of(resumed.path).resolve() == folder.resolve(),
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
    if resumed is None:
        return Described(description, DescribeCheckpoint(description, fingerprint), ())
    changes, restarts_epoch = check_unchanged(resumed, description, fingerprint)
    _refuse_complete(resumed, resolved)
    moved_to = resumed.path.parent.absolute() if resolved.in_own_folder else None
    return Described(
        description, DescribeCheckpoint(description, fingerprint, restarts_epoch, moved_to), tuple(changes)
    )


def assemble(
    resolved: Resolved, described: Described, signals: StopSignals, supervisor: ProcessSupervisor
) -> Assembled:
    """The task with its initial weights, and the trainer around it. Only the choice of the task knows of detection."""
    config, folder, resumed = resolved.config, resolved.folder, resolved.resumed
    control_group = ControlGroup()
    progress = TrainingProgress(
        config.trainer.max_epochs, config.trainer.max_minutes, config.trainer.num_evaluations, control_group
    )
    L.seed_everything(config.seed, workers=True, verbose=False)
    task = detection_task(
        described.description,
        resolved.train,
        resolved.val,
        progress,
        resolved.precision,
        folder,
        is_resumed=resumed is not None,
        processes=resolved.world_size,
    )
    last = PeriodicCheckpoint(folder / CHECKPOINTS, config.trainer.checkpoint_minutes, progress, signals, control_group)
    last.starts_elsewhere = resumed is not None and not (resolved.in_own_folder and resumed.path.name == LAST)
    run_logger = make_logger(config.trainer.logger, folder, None if resumed is None else resumed.step)
    callbacks = build_callbacks(config, folder, task, progress, supervisor, described.callback, last)
    return Assembled(task, build_trainer(config, resolved.precision, folder, callbacks, run_logger), run_logger)


def fit_and_finish(resolved: Resolved, described: Described, assembled: Assembled) -> None:
    """Train in the run folder, which this process holds until the end, then evaluate and draw."""
    invocation, config, folder, resumed = resolved.invocation, resolved.config, resolved.folder, resolved.resumed
    task, trainer, run_logger = assembled.task, assembled.trainer, assembled.run_logger
    lock = None
    try:
        if is_rank_0():
            if invocation.overfit_check:
                task.overfit_check(trainer.strategy.root_device)
            # All settings, data and hardware have been checked: only now may an old run be removed.
            lock = take_folder(folder, invocation.overwrite, is_new=invocation.resume is None)
            write_config(config, folder / "config.yaml")
            write_report(folder / "data_report.json", (resolved.train, resolved.val))
            if resumed is not None and resolved.in_own_folder and resumed.path.name != LAST:
                # It is damaged or discarded, and must not become previous.ckpt.
                (folder / CHECKPOINTS / LAST).unlink(missing_ok=True)
            _log_start(resolved, described, assembled)
            if run_logger is not None:
                start_logger(run_logger, config_to_dict(config))
        checkpoint = None if resumed is None else resumed.path
        with tf32_matmuls(trainer.precision, trainer.strategy.root_device):
            trainer.fit(task.module, task.data, ckpt_path=checkpoint, weights_only=True)
        if trainer.is_global_zero:
            finish(folder, config, _logged_ap(resolved, assembled), run_logger)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise task.out_of_memory(trainer.strategy.root_device) from error
    except SystemExit as ending:
        if isinstance(ending, Stopped) and trainer.is_global_zero:
            step = max(trainer.global_step, 0 if resumed is None else resumed.step)
            where = shlex.quote(str(folder))
            command = f"{command_line('train')} --config {where}/config.yaml --run_dir {where} --resume"
            logger.info(f"stopped after step {step:,}; resume with: {command}")
        elif ending.code == 1:  # Lightning's exit code for Ctrl-C
            raise KeyboardInterrupt from ending
        raise
    finally:
        if run_logger is not None:
            stop_logger(run_logger)
        if lock is not None:
            lock.release()


def _logged_ap(resolved: Resolved, assembled: Assembled) -> LoggedAP | None:
    """The AP that made the best checkpoint the best; None where there is no AP."""
    trainer = assembled.trainer
    score = next(
        (each.best_model_score for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)), None
    )
    if assembled.task.monitor is None or score is None:
        return None
    device = trainer.strategy.root_device
    return LoggedAP(float(score), resolved.precision, uses_tf32(trainer.precision, device), device.type)


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


def _log_start(resolved: Resolved, described: Described, assembled: Assembled) -> None:
    config, task = resolved.config, assembled.task
    parameters = list(task.module.parameters())
    millions = sum(parameter.numel() for parameter in parameters) / 1e6
    frozen = sum(parameter.numel() for parameter in parameters if not parameter.requires_grad) / 1e6
    logger.info(
        f"training {model_title(config.model)}: {millions:.1f} M parameters"
        f"{f' ({frozen:.2g} M of them frozen)' if frozen else ''}, precision {assembled.trainer.precision}"
    )
    if uses_tf32(assembled.trainer.precision, assembled.trainer.strategy.root_device):
        logger.info(f"matrices are multiplied in TF32, on tensor cores; {OVERRIDE}=0 computes them in full float32")
    for note in task.notes:
        logger.info(f"initial weights: {note}")
    size, accumulated, processes = (
        config.data.batch_size,
        config.optim.accumulate_grad_batches or 1,
        resolved.world_size,
    )
    if size is not None and processes * accumulated > 1:
        factors = [f"{processes} processes"] * (processes > 1) + [f"{accumulated} accumulated"] * (accumulated > 1)
        logger.info(f"effective batch size {processes * accumulated * size:,} ({' x '.join([*factors, str(size)])})")
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
