"""Trains any task with the engine of detection: one call, `train_task`."""

import functools
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from detr_lite.build import require
from detr_lite.config import Config, Invocation, config_to_dict, write_settings
from detr_lite.io import atomic_write
from detr_lite.structures import DetrLiteError
from detr_lite.text import printable
from detr_lite.training.datamodule import allow_open_files
from detr_lite.training.distributed.launch import ProcessSupervisor
from detr_lite.training.distributed.signals import StopSignals
from detr_lite.training.fit import Assembled, RunPlace, assemble, fit, log_batches, log_model
from detr_lite.training.loggers import log_final, start_logger
from detr_lite.training.precision import TrainingPass, choose_precision, time_precisions
from detr_lite.training.schedule import TrainingProgress
from detr_lite.training.state.resume import (
    DataFingerprint,
    DescribeCheckpoint,
    TrainingState,
    compare_data,
    compare_settings,
    find_training_state,
    flat_settings,
    training_state,
)
from detr_lite.training.state.run_files import BEST, CHECKPOINTS, LAST
from detr_lite.training.state.run_folder import choose_folder
from detr_lite.training.task import Samples, TaskSpec, load_network, read_task_checkpoint
from detr_lite.training.task_module import TaskData, TaskGuard, TaskModule
from detr_lite.training.threads import set_fixed_threads
from detr_lite.training.trainer import Task, count_processes, run_optimizer, silence_lightning
from detr_lite.weights.checkpoint import TASK_KEY

logger = logging.getLogger(__name__)

SETTINGS_KEY = "detr_lite_task_run"
"""Key in a checkpoint of the settings of the run."""

RESULTS = "evaluation/metrics.json"


@dataclass(frozen=True)
class TaskState(TrainingState):
    """The checkpoint that a task's run is resumed from."""

    task: Mapping[str, Any]
    """The settings of the task itself."""
    run: Mapping[str, Any]
    """The sections of settings that a task's run has."""


def train_task(spec: TaskSpec, invocation: Invocation, command: str) -> dict[str, float]:
    """Train, evaluate the best checkpoint, and write all of it into the run folder, as detection does.

    Returns the metrics of the best checkpoint on `spec.val`; nothing on other processes than the first.

    Args:
        invocation: of its settings a task has `data.batch_size`, `data.num_workers`, `optim`, `trainer` and `seed`.
        command: that a stopped run is resumed with, without --run_dir and --resume.

    Errors: those of detection's runs.
    """
    if not len(spec.train) or not len(spec.val):
        raise DetrLiteError(f"{spec.name}: there are no samples to train with, or none to evaluate on")
    silence_lightning()
    allow_open_files()
    results: dict[str, float] = {}
    with StopSignals() as signals, ProcessSupervisor() as supervisor:
        place = _resolve(spec, invocation)
        describe, changes = _describe(spec, place)
        assembled = assemble(place, describe, signals, supervisor, functools.partial(_make_task, spec, place))
        fit(
            place,
            assembled,
            command,
            start=lambda: _start(spec, place, assembled, changes),
            finish=lambda: results.update(_finish(spec, place, assembled)),
        )
    return results


def _resolve(spec: TaskSpec, invocation: Invocation) -> RunPlace:
    resumed = find_training_state(invocation, functools.partial(_read, spec.name))
    folder = choose_folder(invocation, None if resumed is None else resumed.path)
    config = invocation.config
    set_fixed_threads(config.trainer.threads)
    before = None if resumed is None else resumed.run["trainer"]["precision"]
    if config.trainer.precision == "auto" and before in ("32-true", "bf16-mixed"):
        config = replace(config, trainer=replace(config.trainer, precision=before))
    precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    world_size = count_processes(config, precision, folder)
    if world_size == 1:
        config = time_precisions(config, functools.partial(_first_pass, spec, config))
        precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    return RunPlace(invocation, config, folder, resumed, precision, world_size)


def _first_pass(spec: TaskSpec, config: Config) -> TrainingPass:
    network = spec.build_network(spec.settings).train()
    content = _make_data(spec, config).training_batch(0, 0, 0, 1).content
    return TrainingPass(network, lambda: torch.stack([*spec.losses(network, content).values()]).sum())


def _make_data(spec: TaskSpec, config: Config) -> TaskData:
    size = require("data.batch_size", config.data.batch_size)
    return TaskData(spec, size, config.data.num_workers or 0, config.seed)


def _run_settings(config: Config) -> dict[str, Any]:
    """The settings that a task's run has, by section."""
    sections = config_to_dict(config)
    data = {name: sections["data"][name] for name in ("batch_size", "num_workers")}
    return {"data": data, **{name: sections[name] for name in ("optim", "trainer", "seed")}}


def _describe(spec: TaskSpec, place: RunPlace) -> tuple[DescribeCheckpoint, Sequence[str]]:
    """What each checkpoint says of the run, and what has changed since the one that it resumes from."""
    own = _run_settings(place.config)
    content = {TASK_KEY: spec.description(), SETTINGS_KEY: own}
    fingerprint = DataFingerprint(_count(spec.train), _count(spec.val), place.world_size)
    resumed = place.resumed
    if resumed is None:
        return DescribeCheckpoint(content, fingerprint), ()
    assert isinstance(resumed, TaskState)
    before, after = flat_settings(resumed.run), flat_settings(own)
    fixed = [name for name in (*before, *after) if name == "seed" or name.startswith(("optim.", "data.batch"))]
    compare_settings(resumed.path, resumed.task, spec.settings, {**resumed.task, **spec.settings})
    changes = compare_settings(resumed.path, before, after, fixed)
    restarts_epoch = resumed.fingerprint != fingerprint
    changes += compare_data(resumed.fingerprint, fingerprint, spec.metrics.shown[0])
    epochs = place.config.trainer.max_epochs
    if epochs is not None and resumed.epochs > epochs:
        raise DetrLiteError(f"{resumed.path}: has {resumed.epochs} epochs already; give more --max_epochs")
    return DescribeCheckpoint(content, fingerprint, restarts_epoch, place.moved_to), changes


def _count(samples: Samples) -> str:
    return f"{len(samples):,} samples"


def _make_task(spec: TaskSpec, place: RunPlace, progress: TrainingProgress) -> Task:
    config = place.config
    data = _make_data(spec, config)
    guard = TaskGuard(place.folder, config.optim, rebuild=data.training_batch, seed=config.seed)
    module = TaskModule(
        spec,
        spec.build_network(spec.settings),
        functools.partial(run_optimizer, config=config.optim, fused=place.precision != "16-mixed"),
        config.optim.max_grad_norm,
        guard,
        progress.control_group,
    )
    return Task(
        module=module,
        data=data,
        guard=guard,
        callbacks=(),
        monitor=spec.metrics.shown[0],
        out_of_memory=lambda device: DetrLiteError(
            f"the memory of {device} was too small for a step; give a smaller --batch_size than {data.batch_size}"
        ),
        metrics=spec.metrics,
    )


def _start(spec: TaskSpec, place: RunPlace, assembled: Assembled, changes: Sequence[str]) -> None:
    settings = {"task": spec.name, spec.name: dict(spec.settings), **_run_settings(place.config)}
    write_settings(settings, place.folder / "config.yaml")
    log_model(assembled, spec.name)
    log_batches(place, place.config.data.batch_size)
    logger.info(f"training on {_count(spec.train)}, evaluated on {_count(spec.val)}")
    for change in changes:
        logger.info(f"changed since the checkpoint: {printable(change)}")
    if assembled.run_logger is not None:
        start_logger(assembled.run_logger, settings, spec.metrics.columns)


def _finish(spec: TaskSpec, place: RunPlace, assembled: Assembled) -> dict[str, float]:
    """Evaluate the best checkpoint again, on the CPU or whatever the run was on."""
    best = place.folder / CHECKPOINTS / BEST
    if not best.is_file():  # of a finished run, removed since
        logger.warning(f"{best} does not exist; {LAST} is evaluated instead")
        best = place.folder / CHECKPOINTS / LAST
    network, _ = load_network(best, spec.name, spec.build_network)
    network.to(assembled.trainer.strategy.root_device)
    scores = evaluate_task(spec, network, place.config)
    text = json.dumps(scores, indent=2) + "\n"
    results = place.folder / RESULTS
    results.parent.mkdir(exist_ok=True)
    atomic_write(results, lambda file: file.write(text.encode()))
    if assembled.run_logger is not None:
        log_final(assembled.run_logger, assembled.trainer.global_step, scores, {"curves": place.folder / "curves.png"})
    logger.info(f"{best}: {', '.join(f'{name} {value:.3f}' for name, value in scores.items())}")
    if spec.finish is not None:
        spec.finish(network, place.folder)
    logger.info(f"everything is in {place.folder}")
    return scores


@torch.inference_mode()
def evaluate_task(spec: TaskSpec, network: torch.nn.Module, config: Config) -> dict[str, float]:
    """The metrics of a network on `spec.val`, in full precision on the network's own device."""
    device = next(network.parameters()).device
    network.eval()
    predictions: list[Any] = []
    for batch in _make_data(spec, config).val_dataloader():
        content = _moved(batch.content, device)
        predictions.extend(spec.predict(network, content))
    scores = spec.score(predictions)
    return {name: float(scores[name]) for name in spec.metrics.columns}


def _moved(content: Any, device: torch.device) -> Any:
    from lightning.fabric.utilities import move_data_to_device

    return move_data_to_device(content, device)


def _read(name: str, path: Path) -> TaskState:
    content = read_task_checkpoint(path, name)
    state = training_state(content, path, "--overwrite")
    try:
        return TaskState(**vars(state), task=dict(content[TASK_KEY]["settings"]), run=dict(content[SETTINGS_KEY]))
    except (KeyError, TypeError, ValueError) as error:
        raise DetrLiteError(f"--resume: {path} lacks the settings of its run; start again with --overwrite") from error
