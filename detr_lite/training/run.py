"""A run from settings to a trained, measured detector."""

import functools
import shlex
from collections.abc import Sequence
from pathlib import Path

import lightning as L
from torch import nn

from detr_lite.build import build_criterion, build_model, build_postprocess, build_resize, require
from detr_lite.config import DEFAULT_ROOT, Config, Invocation, config_to_dict, data_root, write_config
from detr_lite.data.coco import CocoDetection, CocoSplit, read_split
from detr_lite.data.synthetic.coco_small import make_coco_small
from detr_lite.data.transforms import evaluation_transform, training_transform
from detr_lite.detector import Detector
from detr_lite.model.backbone import normalisation_of
from detr_lite.structures import DetrLiteError
from detr_lite.text import command_line, printable
from detr_lite.training.auto import choose_sizes, keep_choices
from detr_lite.training.callbacks.attention_logger import AttentionLogger
from detr_lite.training.checks.nan_guard import NaNGuard
from detr_lite.training.checks.overfit_check import overfit_check
from detr_lite.training.datamodule import DetectionData, allow_open_files, default_workers
from detr_lite.training.distributed.control import ControlGroup
from detr_lite.training.distributed.launch import ProcessSupervisor, only_rank_0_prints
from detr_lite.training.distributed.signals import Stopped, StopSignals, outliving_pipes
from detr_lite.training.evaluate import evaluate_checkpoint, run_of
from detr_lite.training.hardware import choose_precision
from detr_lite.training.loggers import make_logger, start_logger, stop_logger
from detr_lite.training.module import DetectionModule
from detr_lite.training.samples import draw_pictures
from detr_lite.training.schedule import TrainingProgress
from detr_lite.training.state.checkpoint import BEST, LAST, PeriodicCheckpoint
from detr_lite.training.state.resume import DescribeCheckpoint, Resumed, RunFacts, check_unchanged, find_resumed
from detr_lite.training.state.run_folder import CHECKPOINTS, choose_folder, is_rank_0, take_folder
from detr_lite.training.trainer import build_trainer, run_optimizer, silence_lightning
from detr_lite.weights.checkpoint import Description
from detr_lite.weights.init import initial_model

THRESHOLD = 0.4
"""Score from which a detection is drawn in a run's pictures."""


def train(invocation: Invocation) -> None:
    """Train, evaluate the best checkpoint, draw pictures; everything goes into the run folder."""
    silence_lightning()
    allow_open_files()
    with outliving_pipes(), StopSignals() as signals, only_rank_0_prints(), ProcessSupervisor() as companions:
        _train(invocation, signals, companions)


def _train(invocation: Invocation, signals: StopSignals, companions: ProcessSupervisor) -> None:
    resumed = find_resumed(invocation)
    folder = choose_folder(invocation, None if resumed is None else resumed.path)
    config = invocation.config if resumed is None else keep_choices(invocation.config, resumed.description.config)
    config, train_split, val_split = read_data(config)

    L.seed_everything(config.seed, workers=True, verbose=False)
    mean, std = normalisation_of(config.model.backbone)
    description = Description(config, train_split.categories, build_resize(config.data), mean, std)
    if resumed is None:
        model, origin = initial_model(description)
    else:
        model, origin = build_model(config.model, len(train_split.categories), for_checkpoint=True), []
    precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    control_group = ControlGroup()
    progress = TrainingProgress(
        config.trainer.max_epochs, config.trainer.max_minutes, config.trainer.num_evaluations, control_group
    )
    criterion = build_criterion(config, len(train_split.categories))
    module = DetectionModule(
        model=model,
        criterion=criterion,
        postprocess=build_postprocess(config.model, [category.name for category in train_split.categories]),
        val=val_split,
        make_optimizer=functools.partial(run_optimizer, config=config.optim, fused=precision != "16-mixed"),
        clip=config.optim.max_grad_norm,
    )
    data = make_data(config, train_split, val_split)
    logger = make_logger(config.trainer.logger, folder, None if resumed is None else resumed.step)
    last = PeriodicCheckpoint(folder / CHECKPOINTS, config.trainer.checkpoint_minutes, progress, signals, control_group)
    watches: list[L.Callback] = []
    if config.trainer.attention_every_n_epochs is not None:
        seen, names = CocoDetection(val_split, data.val_transform), module.postprocess.class_names
        watches.append(
            AttentionLogger(folder, seen, criterion.cost, names, progress, config.trainer.attention_every_n_epochs)
        )
    trainer = build_trainer(config, precision, folder, progress, last, logger, val_split, watches)
    facts = RunFacts.of(train_split, val_split, trainer.world_size)
    changes, restarts_epoch = ([], False) if resumed is None else check_unchanged(resumed, description, facts)
    guard = NaNGuard(folder, description, data.training_batch)
    # These two depend on the trainer; the guard stands before whoever saves.
    is_own = resumed is not None and run_of(resumed.path).resolve() == folder.resolve()
    moved_to = resumed.path.parent.absolute() if resumed is not None and is_own else None
    described = DescribeCheckpoint(description, facts, restarts_epoch, moved_to)
    if resumed is not None:
        _refuse_what_is_over(resumed, config, folder, is_own)
        last.starts_elsewhere = not is_own or resumed.path.name != LAST
    trainer.callbacks = [companions, guard, described, *trainer.callbacks]  # type: ignore[attr-defined]
    start = Path(config.model.init_from or "nowhere").resolve()
    if invocation.overwrite and trainer.world_size > 1 and start.is_relative_to(folder.resolve()):
        # It would be gone before the other processes have read it.
        raise DetrLiteError(f"--model.init_from {start} is in the run that --overwrite removes; move it elsewhere")
    if invocation.overfit_check and is_rank_0():
        overfit_check(module, data, config, precision, trainer.strategy.root_device)
    # All that can be refused has been: only now an old run makes way for this one.
    lock = take_folder(folder, invocation.overwrite, is_new=invocation.resume is None) if is_rank_0() else None
    if is_rank_0():
        write_config(config, folder / "config.yaml")
        if resumed is not None and is_own and resumed.path.name != LAST:
            # Damaged, or left behind: it must not take the place of the one before it.
            (folder / CHECKPOINTS / LAST).unlink(missing_ok=True)
        _say_model(model, config, str(trainer.precision), origin)
        if trainer.world_size > 1:
            images = trainer.world_size * data.batch_size * config.optim.accumulate_grad_batches
            print(f"processes  {trainer.world_size}, which make steps of {images:,} images", flush=True)
        for change in changes:
            print(f"changed    {printable(change)}", flush=True)
        if logger is not None:
            start_logger(logger, config_to_dict(config))
    try:
        trainer.fit(module, data, ckpt_path=None if resumed is None else resumed.path, weights_only=True)
        if trainer.is_global_zero:
            finish(folder, data.batch_size, data.num_workers)
    except SystemExit as ending:
        if isinstance(ending, Stopped) and trainer.is_global_zero:
            step = max(trainer.global_step, 0 if resumed is None else resumed.step)
            where = shlex.quote(str(folder))
            again = f"{command_line('train')} --config {where}/config.yaml --run_dir {where} --resume"
            print(f"stopped    after step {step:,}; go on with: {again}", flush=True)
        elif ending.code == 1:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from ending
        raise
    finally:
        if logger is not None:
            stop_logger(logger)
        if lock is not None:
            lock.release()


def _refuse_what_is_over(resumed: Resumed, config: Config, folder: Path, is_own: bool) -> None:
    """A run that is complete can be completed where it is, and go on for longer anywhere."""
    most = config.trainer.max_epochs
    if most is None or resumed.epochs < most or (is_own and resumed.epochs == most):
        return
    if resumed.epochs > most:
        raise DetrLiteError(f"{resumed.path}: has {resumed.epochs} epochs already; give more --trainer.max_epochs")
    raise DetrLiteError(
        f"{resumed.path}: that run is complete after {most} epochs, so nothing is left to do in {folder}; its results "
        f"are in {run_of(resumed.path)}, and with more --trainer.max_epochs it goes on"
    )


def finish(folder: Path, batch_size: int, num_workers: int) -> None:
    """The evaluation of the best checkpoint, the pictures, and where to look."""
    best = folder / CHECKPOINTS / BEST
    if not best.is_file():  # of a finished run whose best one was removed
        best = folder / CHECKPOINTS / LAST
        print(f"note       {folder / CHECKPOINTS / BEST} is gone; the last checkpoint stands in for it")
    evaluate_checkpoint(best, output=folder / "evaluation", batch_size=batch_size, num_workers=num_workers)
    detector = Detector.from_checkpoint(best, device="cpu")
    split = read_split(data_root(detector.description.config.data.root), "val")
    images = CocoDetection(split, detector.transform)
    draw_pictures(detector.model, detector.postprocess, images, folder, THRESHOLD)
    print(f"look at    {folder}/curves.png, samples.png, attention.png, evaluation/pr_curves.png")
    print(f"use        {best}")


def read_data(config: Config) -> tuple[Config, CocoSplit, CocoSplit]:
    """Training and validation split, and the settings with what follows from them.

    The default data set is drawn first if it is not there.
    """
    root = data_root(config.data.root)
    if config.data.root == DEFAULT_ROOT and not (root.is_dir() and any(root.iterdir())):
        print(f"{root} is not there yet: drawing it, once", flush=True)
        make_coco_small(root)
    train_split, val_split = read_split(root, "train"), read_split(root, "val")
    if train_split.categories != val_split.categories:
        odd = {category.name for category in {*train_split.categories} ^ {*val_split.categories}}
        raise DetrLiteError(
            f"{val_split.annotation_file}: its categories are not those of training (see {', '.join(sorted(odd))}); "
            "give both files the same list, with the same ids"
        )
    config, reasons = choose_sizes(config, train_split)
    if is_rank_0():
        for split in (train_split, val_split):
            print(f"data       {split.describe()}")
            for note in split.notes:
                print(f"note       {note}")
        for reason in reasons:
            print(f"chosen     {reason}")
        most = max(len(image.labels) for image in train_split.images)
        queries = config.model.num_queries
        if queries is not None and most > queries:
            print(
                f"note       an image holds {most} objects but there are {queries} queries: not all can be found; "
                f"set --model.num_queries {most} or more"
            )
    return config, train_split, val_split


def make_data(config: Config, train: CocoSplit, val: CocoSplit) -> DetectionData:
    """The batches of a run whose open settings have been chosen."""
    resize, (mean, std) = build_resize(config.data), normalisation_of(config.model.backbone)
    return DetectionData(
        train=train,
        val=val,
        train_transform=training_transform(config.data.augmentation, resize, mean, std),
        val_transform=evaluation_transform(resize, mean, std),
        resize=resize,
        batch_size=require("data.batch_size", config.data.batch_size),
        num_workers=default_workers() if config.data.num_workers is None else config.data.num_workers,
        seed=config.seed,
    )


def _say_model(model: nn.Module, config: Config, precision: str, origin: Sequence[str]) -> None:
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    still = sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad) / 1e6
    weights = "given" if config.model.init_from else "pretrained" if config.model.pretrained else "random"
    name = f"{config.model.name} on {config.model.backbone} ({weights} weights)"
    frozen = f" ({still:.1f} M of them frozen)" if still else ""
    print(f"model      {name}, {millions:.1f} M parameters{frozen}, {precision}", flush=True)
    for line in origin:
        print(f"init       {line}", flush=True)
