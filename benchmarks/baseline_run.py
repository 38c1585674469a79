"""Train a detector of transformers as `tools/train.py` trains detr_lite's model:

python -m benchmarks.baseline_run d_fine --config FILE --run_dir FOLDER

Data, sizes, schedule, optimizer and evaluation are those of detr_lite, from the same settings. The run folder holds
`config.yaml`, `metrics.csv`, `curves.png` and `model.json`, but no checkpoint.
"""

import functools
import json
import logging
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from benchmarks.baseline_model import BaselineModel, baseline_criterion
from benchmarks.baselines import Baseline, BaselineSizes, find_baseline
from detr_lite.build import build_postprocess, require
from detr_lite.cli.command import run_command
from detr_lite.config import Config, Invocation, OptimConfig, read_config, write_config
from detr_lite.structures import DetrLiteError
from detr_lite.training.auto import choose_precision
from detr_lite.training.datamodule import allow_open_files
from detr_lite.training.detection import make_data, read_data
from detr_lite.training.ema import MovingAverage
from detr_lite.training.module import DetectionModule
from detr_lite.training.optim import make_optimizer, parameter_groups
from detr_lite.training.schedule import TrainingProgress
from detr_lite.training.trainer import progress_callbacks, silence_lightning, trainer_settings

MODEL_FILE = "model.json"


def main() -> None:
    name, *arguments = sys.argv[1:]
    invocation = read_config(arguments, program="baseline_run")
    if invocation.run_dir is None:
        raise DetrLiteError("--run_dir is missing; give the folder for the run")
    train_baseline(find_baseline(name), invocation, invocation.run_dir)


def train_baseline(baseline: Baseline, invocation: Invocation, folder: Path) -> None:
    """One run on one device, from random weights, with a final evaluation; files in the folder are replaced."""
    silence_lightning()
    logging.getLogger("transformers").setLevel(logging.WARNING)
    allow_open_files()
    config, train, val = read_data(invocation.config)
    L.seed_everything(config.seed, workers=True, verbose=False)
    names = [category.name for category in train.categories]
    model = BaselineModel(baseline, baseline_sizes(config, len(names)))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    print(f"{baseline.title} on {config.model.backbone}, {parameters / 1e6:.1f} M parameters, {precision}")
    folder.mkdir(parents=True, exist_ok=True)
    write_config(config, folder / "config.yaml")
    (folder / MODEL_FILE).write_text(json.dumps({"parameters": parameters}) + "\n")

    module = DetectionModule(
        model=model,
        criterion=baseline_criterion,
        postprocess=build_postprocess(config.model, names, baseline.activation),
        val=val,
        make_optimizer=functools.partial(_optimizer, config=config.optim, fused=precision != "16-mixed"),
        max_grad_norm=config.optim.max_grad_norm,
    )
    _trainer(config, precision, folder).fit(module, make_data(config, train, val))


def baseline_sizes(config: Config, classes: int) -> BaselineSizes:
    """The sizes of detr_lite's model; single-scale baselines use its coarsest stride."""
    model = config.model
    return BaselineSizes(
        backbone=model.backbone,
        stride=model.strides[-1],
        classes=classes,
        queries=require("model.num_queries", model.num_queries),
        dim=model.dim,
        heads=model.heads,
        encoder_layers=model.encoder_layers,
        decoder_layers=model.decoder_layers,
        feedforward_dim=model.feedforward_dim,
        dropout=model.dropout,
    )


def _trainer(config: Config, precision: str, folder: Path) -> L.Trainer:
    optim = config.optim
    progress = TrainingProgress(config.trainer.max_epochs, config.trainer.max_minutes, config.trainer.num_evaluations)
    callbacks = progress_callbacks(config, progress, folder)
    if optim.ema_decay:
        callbacks.append(MovingAverage(optim.ema_decay, optim.ema_tau))
    settings = trainer_settings(config, precision, folder)
    return L.Trainer(**settings, devices=1, logger=False, enable_checkpointing=False, callbacks=callbacks)


def _optimizer(model: nn.Module, config: OptimConfig, fused: bool) -> torch.optim.Optimizer:
    assert isinstance(model, BaselineModel)
    name, lr = config.optimizer or "adamw", require("optim.lr", config.lr)
    groups = parameter_groups(model, lr, 1.0, config.weight_decay, config.decay_all, name)
    if name == "muon":
        groups = exclude_class_layers(groups, model.class_weights)
    return make_optimizer(groups, fused, name)


def exclude_class_layers(groups: list[dict[str, Any]], class_weights: Collection[Tensor]) -> list[dict[str, Any]]:
    """Leave the classification layers to AdamW: Muon is for matrices between hidden layers."""
    class_ids = {id(weight) for weight in class_weights}
    divided = []
    for group in groups:
        others = [parameter for parameter in group["params"] if id(parameter) not in class_ids]
        classifiers = [parameter for parameter in group["params"] if id(parameter) in class_ids]
        if others:
            divided.append({**group, "params": others})
        if classifiers:
            name = f"{group['name']} of classes"
            divided.append({**group, "params": classifiers, "name": name, "use_muon": False})
    return divided


if __name__ == "__main__":
    run_command(main)
