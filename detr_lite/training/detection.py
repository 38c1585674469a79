"""Detection as a task for the training engine: its data, its module and criterion, and the callbacks of its own."""

import functools
import logging
from pathlib import Path

import lightning as L

from detr_lite.build import (
    build_augmentation,
    build_criterion,
    build_postprocess,
    build_reading,
    require,
)
from detr_lite.config import DEFAULT_ROOT, Config, data_root
from detr_lite.data.augmentation.training import training_transform
from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.reading import describe_data, read_dataset
from detr_lite.data.records import Split
from detr_lite.data.synthetic.coco_small import make_coco_small
from detr_lite.data.transforms import evaluation_transform
from detr_lite.families.network import FamilyDetr
from detr_lite.model.detr import Detr
from detr_lite.training.auto import choose_sizes, open_source_settings
from detr_lite.training.callbacks.attention_logger import AttentionLogger
from detr_lite.training.checks.diagnostics import LearningRate, TrainingDiagnostics
from detr_lite.training.checks.nan_guard import NaNGuard
from detr_lite.training.checks.overfit_check import overfit_check
from detr_lite.training.compilation import CompileTrial
from detr_lite.training.datamodule import DetectionData
from detr_lite.training.default_lr import default_lr
from detr_lite.training.memory.out_of_memory import out_of_memory_error
from detr_lite.training.module import DetectionModule
from detr_lite.training.schedule import TrainingProgress
from detr_lite.training.trainer import Task, run_optimizer
from detr_lite.weights.checkpoint import Description, activation_of, model_of
from detr_lite.weights.init import initial_model, new_description

logger = logging.getLogger(__name__)


def read_data(config: Config, processes: int = 1) -> tuple[Config, Split, Split]:
    """The settings with all open choices made, the training split and the validation split.

    The default dataset is drawn first if it does not exist.

    Args:
        processes: of the run, which take one batch each in every step.
    """
    root = data_root(config.data.root)
    if config.data.root == DEFAULT_ROOT and not (root.is_dir() and any(root.iterdir())):
        logger.info(f"drawing the default dataset, which does not exist yet: {root}")
        make_coco_small(root)
    splits = read_dataset(root, ("train", "val"), build_reading(config.data))
    train, val = splits["train"], splits["val"]
    config, reasons = choose_sizes(config, train, open_source_settings(config), processes)
    for line in describe_data(splits.values()):
        logger.info(line)
    for reason in reasons:
        logger.info(f"chose {reason}")
    most = int(train.images.counts.max())
    queries = config.model.num_queries
    if queries is not None and most > queries:
        logger.warning(
            f"an image holds {most} objects but there are {queries} queries: not all can be found; "
            f"set --model.num_queries {most} or more"
        )
    return config, train, val


def make_data(config: Config, train: Split, val: Split, description: Description | None = None) -> DetectionData:
    """The batches of a run whose open settings have been chosen; by default those of a new run."""
    description = description or new_description(config, train.categories)
    resize, mean, std = description.resize, description.mean, description.std
    augmentation = build_augmentation(config.data)
    return DetectionData(
        train=train,
        val=val,
        train_transform=training_transform(augmentation, resize, mean, std),
        val_transform=evaluation_transform(resize, mean, std),
        resize=resize,
        batch_size=require("data.batch_size", config.data.batch_size),
        num_workers=config.data.num_workers,
        seed=config.seed,
        late_transform=training_transform(augmentation.late(), resize, mean, std),
        augmentation_stop=augmentation.stop,
    )


def detection_task(
    description: Description,
    train: Split,
    val: Split,
    progress: TrainingProgress,
    precision: str,
    folder: Path,
    is_resumed: bool,
    processes: int = 1,
) -> Task:
    """Model, criterion, data and callbacks. Draws the model's random weights from torch's global generator.

    Args:
        folder: of the run.
        is_resumed: the weights are loaded from the run's checkpoint, so no others are read for the model.
        processes: of the run.
    """
    config, classes = description.config, len(description.categories)
    notes: list[str] = []
    model: Detr | FamilyDetr
    if is_resumed:
        model = model_of(description)
    else:
        model, notes = initial_model(description)
    if config.trainer.gradient_checkpointing:
        model.set_gradient_checkpointing()
    data = make_data(config, train, val, description)
    guard = NaNGuard(folder, description, data.training_batch, train.file_name)
    criterion = build_criterion(config, classes, description.architecture)
    names = [category.name for category in description.categories]
    module = DetectionModule(
        model=model,
        criterion=criterion,
        postprocess=build_postprocess(config.model, names, activation_of(description)),
        val=val,
        make_optimizer=functools.partial(run_optimizer, config=config.optim, fused=precision != "16-mixed"),
        max_grad_norm=config.optim.max_grad_norm,
        guard=guard,
        control_group=progress.control_group,
    )
    rate = LearningRate(require("optim.lr", config.optim.lr), default_lr(config, processes))
    callbacks: list[L.Callback] = [TrainingDiagnostics(progress, val, rate, config.optim.warmup_steps)]
    if config.trainer.compile:
        callbacks.append(CompileTrial(progress))
    if config.trainer.attention_every_n_epochs is not None:
        images = DetectionDataset(val, data.val_transform)
        callbacks.append(
            AttentionLogger(
                folder, images, criterion.cost, tuple(names), progress, config.trainer.attention_every_n_epochs
            )
        )
    return Task(
        module=module,
        data=data,
        guard=guard,
        callbacks=tuple(callbacks),
        monitor="AP" if val.has_objects else None,
        overfit_check=functools.partial(overfit_check, module, data, config, precision),
        out_of_memory=functools.partial(out_of_memory_error, module, config, classes, precision),
        notes=tuple(notes),
    )
