"""The EMA of the weights: its values, what is evaluated and saved, and resuming."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from detr_lite.build import build_postprocess
from detr_lite.config import Config, Invocation
from detr_lite.data.transforms import evaluation_transform
from detr_lite.structures import Batch, Detections, DetrLiteError
from detr_lite.training import run
from detr_lite.training.datamodule import DetectionData
from detr_lite.training.detection import read_data
from detr_lite.training.ema import MovingAverage, decay_at
from detr_lite.training.evaluate import detect
from detr_lite.training.module import DetectionModule
from detr_lite.weights.checkpoint import load_model

EMA, TAU = 0.9, 5


def test_the_decay_rises_from_zero_to_its_full_value() -> None:
    assert decay_at(1, 0.9997, 2000) == pytest.approx(0.9997 * (1 - math.exp(-1 / 2000)))
    assert decay_at(2000, 0.999, 2000) == pytest.approx(0.999 * (1 - 1 / math.e))
    assert decay_at(10**6, 0.999, 2000) == pytest.approx(0.999)


class Toy(L.LightningModule):
    """A layer with batch norm; records the weights after each optimizer step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.seen: list[dict[str, Tensor]] = [self.copy()]

    def copy(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.state_dict().items()}

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        return (self.model(batch[0]) - 1).square().mean()

    def on_train_batch_end(self, *_: Any) -> None:
        if self.trainer.global_step == len(self.seen):
            self.seen.append(self.copy())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 14), (2, 8)])
def test_the_average_is_updated_once_per_optimizer_step(accumulate: int, steps: int) -> None:
    module, average = Toy(), MovingAverage(EMA, TAU)
    data = TensorDataset(torch.randn(14, 3, generator=torch.Generator().manual_seed(1)))
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[average],
    )
    trainer.fit(module, DataLoader(data, batch_size=2))

    assert trainer.global_step == steps == len(module.seen) - 1
    expected = module.seen[0]
    for step, seen in enumerate(module.seen[1:], start=1):
        decay = EMA * (1 - math.exp(-step / TAU))
        expected = {name: decay * expected[name] + (1 - decay) * value for name, value in seen.items()}
    expected["model.1.num_batches_tracked"] = module.seen[-1]["model.1.num_batches_tracked"]
    # At the end of training the average is copied into the module.
    torch.testing.assert_close(module.copy(), expected)
    assert not torch.equal(expected["model.1.running_mean"], module.seen[-1]["model.1.running_mean"])


@pytest.fixture
def config(tiny_config: Config) -> Config:
    """Four epochs of four steps, an evaluation after each; batch norms are trained, as nothing is pretrained."""
    return replace(
        tiny_config,
        data=replace(tiny_config.data, batch_size=2),
        optim=replace(tiny_config.optim, ema_decay=EMA, ema_tau=TAU),
        trainer=replace(tiny_config.trainer, max_epochs=4, num_evaluations=4),
    )


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Training without the final evaluation and pictures."""
    monkeypatch.setattr(run, "finish", lambda *_: None)
    monkeypatch.setattr("detr_lite.training.callbacks.metrics.plot_training_curves", lambda *_: None)

    def train(config: Config, folder: Path, resume: str | None = None) -> None:
        run.train(Invocation(config, config_name="tiny", run_dir=folder, resume=resume, overwrite=False))

    return train


def checkpoint(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    assert list(first) == list(second)
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.stress
def test_the_best_checkpoint_holds_the_weights_that_were_evaluated(
    config: Config, train: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is saved at the end of validation, when the EMA and the weights have just been swapped back."""
    evaluated: dict[int, dict[str, Tensor]] = {}
    trained: dict[int, dict[str, Tensor]] = {}
    found: dict[int, dict[int, Detections]] = {}
    training_step, validation_step = DetectionModule.training_step, DetectionModule.validation_step

    def copy(module: DetectionModule) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in module.state_dict().items()}

    def watch_training(module: DetectionModule, batch: Batch, index: int) -> Tensor:
        trained.setdefault(module.trainer.global_step, copy(module))
        return training_step(module, batch, index)

    def watch_validation(module: DetectionModule, batch: Batch, index: int) -> None:
        evaluated.setdefault(module.trainer.global_step, copy(module))
        validation_step(module, batch, index)
        found[module.trainer.global_step] = dict(module.detections)

    monkeypatch.setattr(DetectionModule, "training_step", watch_training)
    monkeypatch.setattr(DetectionModule, "validation_step", watch_validation)
    train(config, tmp_path)

    best, last = checkpoint(tmp_path, "best"), checkpoint(tmp_path, "last")
    assert list(evaluated) == [4, 8, 12, 16]
    for content in (best, last):
        assert same(content["state_dict"], evaluated[content["global_step"]])
        assert not same(content["state_dict"], content["current_model_state"])
        assert all(name.startswith("model.") for name in content["state_dict"])
        assert int(content["averaging_state"]["n_averaged"]) == content["global_step"] + 1
    step = best["global_step"]
    trained[16] = last["current_model_state"]
    assert same(best["current_model_state"], trained[step])

    # The file reproduces the detections that were evaluated, batch norm statistics included.
    model, description = load_model(tmp_path / "checkpoints" / "best.ckpt")
    _, _, val = read_data(config)
    data = DetectionData(
        *(val, val, *2 * (evaluation_transform(description.resize, description.mean, description.std),)),
        *(description.resize, 2, 0, 0),
    )
    postprocess = build_postprocess(config.model, [category.name for category in val.categories])
    again = detect(model, postprocess, data.val_dataloader(), torch.device("cpu"))
    assert again.keys() == found[step].keys()
    for image, detections in again.items():
        torch.testing.assert_close(detections.scores, found[step][image].scores)
        torch.testing.assert_close(detections.boxes_xyxy, found[step][image].boxes_xyxy)


@pytest.mark.stress
@pytest.mark.parametrize(("accumulate", "epochs_first"), [(1, 2), (3, 2), (1, 4)])
def test_a_resumed_run_continues_from_the_weights_and_the_average(
    config: Config, train: Callable[..., None], tmp_path: Path, accumulate: int, epochs_first: int
) -> None:
    config = replace(config, optim=replace(config.optim, accumulate_grad_batches=accumulate, schedule="constant"))
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    train(config, uninterrupted)
    first = replace(config.trainer, max_epochs=epochs_first, num_evaluations=epochs_first)
    train(replace(config, trainer=first), resumed)
    train(config, resumed, resume="last")
    expected, content = checkpoint(uninterrupted, "last"), checkpoint(resumed, "last")
    assert content["global_step"] == expected["global_step"] == 4 * -(-4 // accumulate)
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert same(content[part], expected[part]), part
    assert not same(content["state_dict"], content["current_model_state"])


@pytest.mark.parametrize(("before", "now"), [(0.0, EMA), (EMA, 0.0), (EMA, 0.99)])
@pytest.mark.slow
def test_a_resumed_run_keeps_its_ema_settings(
    config: Config, train: Callable[..., None], tmp_path: Path, before: float, now: float
) -> None:
    one = replace(config, trainer=replace(config.trainer, max_epochs=1, num_evaluations=1))
    train(replace(one, optim=replace(one.optim, ema_decay=before)), tmp_path)
    with pytest.raises(DetrLiteError, match=rf"was trained with optim\.ema_decay {before}, not {now}"):
        train(replace(config, optim=replace(config.optim, ema_decay=now)), tmp_path, resume="last")


@pytest.mark.stress
def test_without_an_average_a_checkpoint_has_one_set_of_weights(
    config: Config, train: Callable[..., None], tmp_path: Path
) -> None:
    config = replace(config, optim=replace(config.optim, ema_decay=0.0), trainer=replace(config.trainer, max_epochs=1))
    train(config, tmp_path)
    assert not {"current_model_state", "averaging_state"} & checkpoint(tmp_path, "last").keys()
