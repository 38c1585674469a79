"""Trains any task in its run folder: the lock, where to resume, and what is said when training ends early."""

import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger

from detr_lite.allocator import keep_freed_memory
from detr_lite.config import Config, Invocation
from detr_lite.training.distributed.control import ControlGroup
from detr_lite.training.distributed.launch import ProcessSupervisor, is_rank_0
from detr_lite.training.distributed.signals import Stopped, StopSignals
from detr_lite.training.loggers import make_logger, stop_logger
from detr_lite.training.memory.out_of_memory import is_out_of_memory
from detr_lite.training.schedule import TrainingProgress
from detr_lite.training.state.checkpoint import PeriodicCheckpoint
from detr_lite.training.state.resume import DescribeCheckpoint, TrainingState
from detr_lite.training.state.run_files import CHECKPOINTS, LAST, run_of
from detr_lite.training.state.run_folder import take_folder
from detr_lite.training.tf32 import OVERRIDE, tf32_matmuls, uses_tf32
from detr_lite.training.trainer import Task, build_callbacks, build_trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunPlace:
    """Where a run is written, and what it continues."""

    invocation: Invocation
    config: Config
    """With all open settings chosen; of another task than detection only `optim`, `trainer` and `seed` matter."""
    folder: Path
    resumed: TrainingState | None
    precision: str
    world_size: int

    @property
    def in_own_folder(self) -> bool:
        """Whether a resumed run continues in the folder of its checkpoint."""
        return self.resumed is not None and run_of(self.resumed.path).resolve() == self.folder.resolve()

    @property
    def moved_to(self) -> Path | None:
        """The folder of the checkpoints that a resumed run continues with, whatever its name was."""
        return self.resumed.path.parent.absolute() if self.resumed is not None and self.in_own_folder else None


@dataclass(frozen=True)
class Assembled:
    """The task, and the trainer with all its callbacks."""

    task: Task
    trainer: L.Trainer
    run_logger: Logger | None

    @property
    def best_score(self) -> float | None:
        """The metric that made the best checkpoint the best; None where there is none."""
        checkpoints = self.trainer.checkpoint_callbacks
        score = next((each.best_model_score for each in checkpoints if isinstance(each, ModelCheckpoint)), None)
        return None if self.task.monitor is None or score is None else float(score)


def assemble(
    place: RunPlace,
    describe: DescribeCheckpoint,
    signals: StopSignals,
    supervisor: ProcessSupervisor,
    make_task: Callable[[TrainingProgress], Task],
) -> Assembled:
    """The task with its initial weights, and the trainer around it.

    Args:
        make_task: draws the initial weights from torch's global generator, which has been seeded.
    """
    config, folder, resumed = place.config, place.folder, place.resumed
    control_group = ControlGroup()
    progress = TrainingProgress(
        config.trainer.max_epochs, config.trainer.max_minutes, config.trainer.num_evaluations, control_group
    )
    L.seed_everything(config.seed, workers=True, verbose=False)
    task = make_task(progress)
    last = PeriodicCheckpoint(folder / CHECKPOINTS, config.trainer.checkpoint_minutes, progress, signals, control_group)
    last.starts_elsewhere = resumed is not None and not (place.in_own_folder and resumed.path.name == LAST)
    run_logger = make_logger(config.trainer.logger, folder, None if resumed is None else resumed.step)
    callbacks = build_callbacks(config, folder, task, progress, supervisor, describe, last)
    return Assembled(task, build_trainer(config, place.precision, folder, callbacks, run_logger), run_logger)


def fit(
    place: RunPlace,
    assembled: Assembled,
    command: str,
    start: Callable[[], None],
    finish: Callable[[], None],
) -> None:
    """Train in the run folder, which this process holds until the end.

    Args:
        command: that a stopped run is resumed with, without the words for the folder and `--resume`.
        start: writes and says what belongs to the task, and gives the loggers their settings; on rank 0.
        finish: on rank 0 after training.
    """
    invocation, folder, resumed = place.invocation, place.folder, place.resumed
    task, trainer, run_logger = assembled.task, assembled.trainer, assembled.run_logger
    lock = None
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    try:
        if is_rank_0():
            if invocation.overfit_check and task.overfit_check is not None:
                task.overfit_check(trainer.strategy.root_device)
            # All settings, data and hardware have been checked: only now may an old run be removed.
            lock = take_folder(folder, invocation.overwrite, is_new=invocation.resume is None)
            if resumed is not None and place.in_own_folder and resumed.path.name != LAST:
                # It is damaged or discarded, and must not become previous.ckpt.
                (folder / CHECKPOINTS / LAST).unlink(missing_ok=True)
            start()
        checkpoint = None if resumed is None else resumed.path
        with tf32_matmuls(trainer.precision, trainer.strategy.root_device):
            trainer.fit(task.module, task.data, ckpt_path=checkpoint, weights_only=True)
        if trainer.is_global_zero:
            finish()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise task.out_of_memory(trainer.strategy.root_device) from error
    except SystemExit as ending:
        if isinstance(ending, Stopped) and trainer.is_global_zero:
            step = max(trainer.global_step, 0 if resumed is None else resumed.step)
            where = shlex.quote(str(folder))
            logger.info(f"stopped after step {step:,}; resume with: {command} --run_dir {where} --resume")
        elif ending.code == 1:  # Lightning's exit code for Ctrl-C
            raise KeyboardInterrupt from ending
        raise
    finally:
        if run_logger is not None:
            stop_logger(run_logger)
        if lock is not None:
            lock.release()


def log_model(assembled: Assembled, title: str) -> None:
    """What is trained, in which precision, and where its weights are from."""
    task, trainer = assembled.task, assembled.trainer
    parameters = list(task.module.parameters())
    millions = sum(parameter.numel() for parameter in parameters) / 1e6
    frozen = sum(parameter.numel() for parameter in parameters if not parameter.requires_grad) / 1e6
    logger.info(
        f"training {title}: {millions:.1f} M parameters"
        f"{f' ({frozen:.2g} M of them frozen)' if frozen else ''}, precision {trainer.precision}"
    )
    if uses_tf32(trainer.precision, trainer.strategy.root_device):
        logger.info(f"matrices are multiplied in TF32, on tensor cores; {OVERRIDE}=0 computes them in full float32")
    for note in task.notes:
        logger.info(f"initial weights: {note}")


def log_batches(place: RunPlace, batch_size: int | None) -> None:
    """How many samples a step has, where that is more than one batch."""
    accumulated, processes = place.config.optim.accumulate_grad_batches or 1, place.world_size
    if batch_size is not None and processes * accumulated > 1:
        factors = [f"{processes} processes"] * (processes > 1) + [f"{accumulated} accumulated"] * (accumulated > 1)
        size = processes * accumulated * batch_size
        logger.info(f"effective batch size {size:,} ({' x '.join([*factors, str(batch_size)])})")
