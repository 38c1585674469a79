"""What detr_lite uses of Lightning beyond its documentation still behaves as detr_lite needs it to."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

from detr_lite.training import lightning_internals as internals
from tests.helpers.toy_module import BATCHES, Toy


class At(L.Callback):
    """Calls a function after one batch of one epoch."""

    def __init__(self, epoch: int, batch: int, action: Any) -> None:
        self.moment = (epoch, batch)
        self.action = action

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if (trainer.current_epoch, _[3]) == self.moment:
            self.action(trainer)


class Scored(Toy):
    """Its second evaluation is the best."""

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log("AP", torch.tensor(0.5 if len(self.evaluated_at) == 2 else 0.1))


def fit(module: L.LightningModule, *callbacks: L.Callback, resume: Path | None = None, **settings: Any) -> L.Trainer:
    """Two epochs; evaluations only where `set_evaluation_due` asks for them."""
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **{
            "max_epochs": 2,
            "val_check_interval": internals.NEVER,
            "check_val_every_n_epoch": None,
            "enable_checkpointing": any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
            **settings,
        },
    )
    values = DataLoader(TensorDataset(torch.ones(BATCHES, 1)), generator=torch.Generator())
    trainer.fit(module, values, DataLoader(TensorDataset(torch.ones(1, 1))), ckpt_path=resume, weights_only=True)
    return trainer


def saved(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def test_the_epoch_and_the_batch_are_those_of_the_loops() -> None:
    seen: list[tuple[int, int]] = []
    fit(Toy(), At(1, 2, lambda trainer: seen.append(internals.epoch_and_batch(trainer))))
    # Lightning counts the batch as processed before the callbacks run.
    assert seen == [(1, 3)]


def test_an_evaluation_comes_after_the_batch_for_which_it_is_due() -> None:
    class Once(L.Callback):
        def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
            internals.set_evaluation_due(trainer, False)

        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            internals.set_evaluation_due(trainer, trainer.global_step == 3)

    module = Toy()
    fit(module, Once())
    assert module.evaluated_at == [3]


def test_a_pending_evaluation_is_made_first_by_a_resumed_run(tmp_path: Path) -> None:
    class Pending(L.Callback):
        def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
            internals.mark_evaluation_pending(checkpoint)

        def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
            internals.set_evaluation_due(trainer, trainer.global_step > 0)

        def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
            internals.set_evaluation_due(trainer, False)

    path = tmp_path / "pending.ckpt"
    fit(Toy(), Pending(), At(0, 2, lambda trainer: trainer.save_checkpoint(path)))
    module = Toy()
    assert fit(module, Pending(), resume=path).global_step == 2 * BATCHES
    assert module.evaluated_at == [3]
    assert len(module.rates) == 2 * BATCHES - 3


@pytest.mark.parametrize("batch", [2, BATCHES - 1])
def test_an_epoch_can_be_restarted(tmp_path: Path, batch: int) -> None:
    path = tmp_path / "within.ckpt"
    fit(Toy(), At(1, batch, lambda trainer: trainer.save_checkpoint(path)))
    checkpoint = saved(path)
    assert internals.completed_epochs(checkpoint) == 1
    assert internals.rewind_to_epoch_start(checkpoint)
    torch.save(checkpoint, path)
    module = Toy()
    trainer = fit(module, resume=path)
    assert len(module.rates) == BATCHES
    assert trainer.global_step == BATCHES + batch + 1 + BATCHES


def test_between_two_epochs_there_is_nothing_to_restart(tmp_path: Path) -> None:
    trainer = fit(Toy())
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    checkpoint = saved(tmp_path / "end.ckpt")
    assert internals.completed_epochs(checkpoint) == 2
    assert not internals.rewind_to_epoch_start(checkpoint)


def best_in(folder: Path) -> ModelCheckpoint:
    """As a run has it."""
    return ModelCheckpoint(
        folder, "best", "AP", mode="max", save_on_train_epoch_end=False, enable_version_counter=False
    )


class Load(L.Callback):
    """Changes what is loaded."""

    def __init__(self, change: Any) -> None:
        self.change = change

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.change(checkpoint)


EVALUATED = {"val_check_interval": None, "check_val_every_n_epoch": 1}


def test_the_best_checkpoint_is_still_known_in_a_folder_of_another_name(tmp_path: Path) -> None:
    fit(Scored(), best_in(tmp_path / "old"), **EVALUATED).save_checkpoint(tmp_path / "old/last.ckpt")
    (tmp_path / "old").rename(tmp_path / "new")
    new = tmp_path / "new"
    best = best_in(new)
    load = Load(lambda checkpoint: internals.move_best_checkpoint(checkpoint, new))
    fit(Scored(), load, best, resume=new / "last.ckpt", max_epochs=3, **EVALUATED)
    assert best.best_model_score == 0.5
    assert best.best_model_path == str(new / "best.ckpt")
    assert saved(new / "best.ckpt")["global_step"] == 2 * BATCHES  # the third evaluation was worse


def test_without_its_file_the_next_checkpoint_is_the_best(tmp_path: Path) -> None:
    fit(Scored(), best_in(tmp_path), **EVALUATED).save_checkpoint(tmp_path / "last.ckpt")
    (tmp_path / "best.ckpt").unlink()
    load = Load(internals.forget_missing_best)
    fit(Scored(), load, best_in(tmp_path), resume=tmp_path / "last.ckpt", max_epochs=3, **EVALUATED)
    assert saved(tmp_path / "best.ckpt")["global_step"] == 3 * BATCHES


def test_lightning_installs_no_signal_handler() -> None:
    handlers: list[Any] = []

    class Silent(L.Callback):
        def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
            internals.disable_signal_handlers(trainer)

    def look(trainer: L.Trainer) -> None:
        handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    fit(Toy(), Silent(), At(0, 0, look), max_epochs=1)
    fit(Toy(), At(0, 0, look), max_epochs=1)
    assert handlers[0] == before
    assert handlers[1] != before  # or there would be nothing to disable any more


def test_the_processes_that_lightning_has_started_are_taken_from_it() -> None:
    trainer = L.Trainer(accelerator="cpu", devices=2, strategy=DDPStrategy(), logger=False, enable_checkpointing=False)
    watched = trainer.strategy.launcher.procs
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        watched.append(child)
        assert internals.take_child_processes(trainer) == [child]
    assert watched == []  # the very list that Lightning's observer holds
    assert internals.take_child_processes(L.Trainer(accelerator="cpu", devices=1, logger=False)) == []


def test_the_model_that_is_averaged_can_be_replaced() -> None:
    class Averaging(WeightAveraging):
        def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
            self.average = AveragedModel(nn.ParameterDict({"weight": pl_module.weight}))
            internals.set_average_model(self, self.average)

    callback, module = Averaging(), Toy()
    fit(module, callback)
    assert int(callback.average.n_averaged) == 2 * BATCHES
    assert torch.equal(module.weight, callback.average.module["weight"])  # copied at the end of training


def test_wandb_is_not_passed_what_it_warns_of(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    from lightning.pytorch.loggers import WandbLogger

    logger = WandbLogger(save_dir=tmp_path, offline=True)
    assert "anonymous" in logger._wandb_init
    internals.drop_anonymous_setting(logger)
    assert "anonymous" not in logger._wandb_init
