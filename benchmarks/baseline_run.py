"""Train a detector of transformers as `tools/train.py` trains detr_lite's model:

python -m benchmarks.baseline_run d_fine --config FILE --run_dir FOLDER

Data, sizes, schedule, optimizer and evaluation are those of detr_lite, from the same settings. The run folder holds
`config.yaml`, `metrics.csv`, `curves.png`, `model.json` and `evaluation/detections.json`, of which `report` compares
runs, but no checkpoint.
"""

import functools
import json
import logging
import sys
from pathlib import Path

import lightning as L

from benchmarks.baselines import Baseline, BaselineSizes, build_network, find_baseline
from detr_lite.build import build_criterion, build_postprocess, require
from detr_lite.cli.command import run_command
from detr_lite.config import Config, Invocation, read_config, write_config
from detr_lite.data.records import Split
from detr_lite.evaluation.packing import pack_detections
from detr_lite.evaluation.result_files import write_detections
from detr_lite.families.network import FamilyDetr
from detr_lite.structures import DetrLiteError
from detr_lite.training.datamodule import allow_open_files
from detr_lite.training.detection import make_data, read_data
from detr_lite.training.ema import MovingAverage
from detr_lite.training.module import DetectionModule
from detr_lite.training.precision import choose_precision
from detr_lite.training.schedule import TrainingProgress
from detr_lite.training.threads import set_fixed_threads
from detr_lite.training.trainer import progress_callbacks, run_optimizer, silence_lightning, trainer_settings

MODEL_FILE = "model.json"


class DetectionsWriter(L.Callback):
    """Writes the detections of each evaluation over those of the one before."""

    def __init__(self, folder: Path, val: Split) -> None:
        self.folder = folder
        self.val = val

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, DetectionModule)
        detections = pack_detections(module.detections)
        path = self.folder / "evaluation" / "detections.json"
        write_detections(path, detections, self.val.image_ids, self.val.categories)


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
    set_fixed_threads(invocation.config.trainer.threads)
    config, train, val = read_data(invocation.config)
    L.seed_everything(config.seed, workers=True, verbose=False)
    names = [category.name for category in train.categories]
    model = FamilyDetr(build_network(baseline, baseline_sizes(config, len(names))))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    print(f"{baseline.title} on {config.model.backbone}, {parameters / 1e6:.1f} M parameters, {precision}")
    folder.mkdir(parents=True, exist_ok=True)
    write_config(config, folder / "config.yaml")
    (folder / MODEL_FILE).write_text(json.dumps({"parameters": parameters}) + "\n")

    module = DetectionModule(
        model=model,
        criterion=build_criterion(config, len(names), model.network.config.to_dict()),
        postprocess=build_postprocess(config.model, names, baseline.activation),
        val=val,
        make_optimizer=functools.partial(run_optimizer, config=config.optim, fused=precision != "16-mixed"),
        max_grad_norm=config.optim.max_grad_norm,
    )
    _trainer(config, precision, folder, val).fit(module, make_data(config, train, val))


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


def _trainer(config: Config, precision: str, folder: Path, val: Split) -> L.Trainer:
    optim = config.optim
    progress = TrainingProgress(config.trainer.max_epochs, config.trainer.max_minutes, config.trainer.num_evaluations)
    callbacks = [*progress_callbacks(config, progress, folder), DetectionsWriter(folder, val)]
    if optim.ema_decay:
        callbacks.append(MovingAverage(optim.ema_decay, optim.ema_tau))
    settings = trainer_settings(config, precision, folder)
    return L.Trainer(**settings, devices=1, logger=False, enable_checkpointing=False, callbacks=callbacks)


if __name__ == "__main__":
    run_command(main)
