"""Loggers for TensorBoard and Weights & Biases, which get the rows of `metrics.csv` and the final results."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning_utilities.core.imports import RequirementCache
from PIL import Image

from detr_lite.evaluation.coco_map import METRICS
from detr_lite.structures import DetrLiteError
from detr_lite.text import reason_of
from detr_lite.training.lightning_internals import drop_anonymous_setting

REQUIREMENTS = {"tensorboard": "tensorboard>=2.21", "wandb": "wandb>=0.31"}
"""The same as the extra `loggers` in pyproject.toml, which gives the reasons."""

LOGGED = (
    *("tensorboard/events.out.tfevents.*", "tensorboard/hparams.yaml"),
    *("wandb/run-*", "wandb/offline-run-*", "wandb/latest-run*", "wandb/debug*.log"),
)
"""What the loggers write into a run folder."""


def make_logger(kind: str, folder: Path, resumed_step: int | None = None) -> Logger | None:
    """The logger for the setting `trainer.logger`; writes nothing yet.

    Args:
        resumed_step: TensorBoard hides what it has of later steps, which are trained again.

    Errors: a missing package; W&B without a login, which would otherwise prompt for one and wait.
    """
    if kind == "none":
        return None
    if not RequirementCache(REQUIREMENTS[kind]):
        raise DetrLiteError(
            f"trainer.logger {kind} needs a package that is not installed: pip install '{REQUIREMENTS[kind]}'"
        )
    if kind == "tensorboard":
        purge_step = None if resumed_step is None else resumed_step + 1
        return TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False, purge_step=purge_step)
    _require_login()
    logger = WandbLogger(
        name=folder.name,
        save_dir=folder,
        project=os.environ.get("WANDB_PROJECT", "detr_lite"),
        id=None if resumed_step is None else _last_wandb_id(folder),
    )
    drop_anonymous_setting(logger)
    return logger


def start_logger(logger: Logger, settings: Mapping[str, Any], metrics: Sequence[str] = METRICS) -> None:
    """Log the settings by their names on the command line, and announce the metrics."""
    parameters: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            parameters.update({f"{name}.{key}": _plain(entry) for key, entry in value.items()})
        else:
            parameters[name] = _plain(value)
    if isinstance(logger, WandbLogger):
        import wandb

        try:
            _ = logger.experiment
        except (wandb.errors.Error, TimeoutError) as error:
            raise DetrLiteError(
                f"trainer.logger is wandb: {reason_of(error)}; set WANDB_MODE=offline to log without the network"
            ) from error
    logger.log_hyperparams(parameters)
    if isinstance(logger, TensorBoardLogger):
        from torch.utils.tensorboard.summary import hparams

        # Not through Lightning, which asks for values of the metrics; the page needs only their names.
        for summary in hparams(parameters, dict.fromkeys(metrics)):  # type: ignore[no-untyped-call]
            logger.experiment.file_writer.add_summary(summary)


def log_final(logger: Logger, step: int, numbers: Mapping[str, float], pictures: Mapping[str, Path]) -> None:
    """Log the results at the end of a run, under "final/NAME"; pictures that do not exist are left out.

    Args:
        step: the last one, where TensorBoard shows them.
    """
    images = {f"final/{name}": path for name, path in pictures.items() if path.is_file()}
    values = {f"final/{name}": value for name, value in numbers.items()}
    if isinstance(logger, WandbLogger):
        import wandb

        logger.experiment.summary.update(values)
        logger.experiment.log({name: wandb.Image(str(path)) for name, path in images.items()})
    elif isinstance(logger, TensorBoardLogger):
        from torch.utils.tensorboard import SummaryWriter

        # Lightning has closed its own writer; opened again, it would hide what a resumed run has logged.
        with SummaryWriter(logger.log_dir) as writer:
            for name, value in values.items():
                writer.add_scalar(name, value, step)
            for name, path in images.items():
                with Image.open(path) as image:
                    pixels = np.asarray(image.convert("RGB"))
                writer.add_image(name, pixels, step, dataformats="HWC")


@rank_zero_only
def stop_logger(logger: Logger) -> None:
    """Finish the W&B run, as failed if an exception is propagating. Lightning closes TensorBoard's files itself."""
    if isinstance(logger, WandbLogger):
        import wandb

        wandb.finish(exit_code=int(sys.exception() is not None))


def remove_logs(folder: Path) -> None:
    """Remove the files of an earlier run's loggers, nothing else that may be there, and nothing behind a link."""
    for pattern in LOGGED:
        for path in folder.glob(pattern):
            if path.parent.is_symlink():
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


@rank_zero_only
def _require_login() -> None:
    import wandb

    if wandb.setup().settings.mode in ("offline", "dryrun", "disabled"):
        return
    try:
        is_logged_in = wandb.login(prompt=False)
    except wandb.errors.Error as error:
        raise DetrLiteError(
            f"trainer.logger is wandb: {reason_of(error)}; run `wandb login`, or set WANDB_MODE=offline"
        ) from error
    if not is_logged_in:
        raise DetrLiteError(
            "trainer.logger is wandb, but nobody is logged in; run `wandb login` first, or set WANDB_MODE=offline to "
            "log to the run folder alone"
        )


def _last_wandb_id(folder: Path) -> str | None:
    """W&B's id of the run that is resumed, from its folder's name: run-TIME-ID."""
    runs = [*folder.glob("wandb/run-*-*"), *folder.glob("wandb/offline-run-*-*")]
    latest = max(runs, key=lambda path: path.name.removeprefix("offline-"), default=None)
    return None if latest is None else latest.name.removeprefix("offline-").split("-", 2)[2]


def _plain(value: object) -> bool | int | float | str:
    if isinstance(value, bool | int | float | str):
        return value
    return str(list(value) if isinstance(value, tuple) else value)
