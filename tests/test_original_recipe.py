"""The presets of the original DETR configure the published training run.

References: torchvision's ResNets, of which the original trained the last three stages; the number of parameters in its
log; and the values in docs/recipes.md.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import lightning as L
import pytest
import torch
import torchvision
from torch import nn

from detr_lite.build import build_criterion, build_model, build_resize
from detr_lite.config import Config, Invocation, config_to_dict, read_config
from detr_lite.data.transforms import MEAN, STD, ResizeRule
from detr_lite.loss.criterion import official_criterion
from detr_lite.model.detr import Detr
from detr_lite.model.frozen import FrozenBatchNorm
from detr_lite.model.pretrained import normalization_of
from detr_lite.structures import Batch, Target
from detr_lite.training import detection, run
from detr_lite.training.module import DetectionModule
from detr_lite.training.schedule import LRSchedule, TrainingProgress

NAMES = ("coco_detr_r50", "coco_detr_r50_dc5", "coco_detr_r101", "coco_detr_r101_dc5")


def settings(name: str) -> Config:
    return read_config(["--config", name]).config


def differences(name: str) -> dict[str, Any]:
    values_of, base = config_to_dict(settings(name)), config_to_dict(settings("coco_detr_r50"))
    return {
        f"{section}.{setting}": value
        for section, values in values_of.items()
        if isinstance(values, dict)
        for setting, value in values.items()
        if value != base[section][setting]
    }


@pytest.mark.slow
def test_the_other_presets_differ_in_the_backbone_alone() -> None:
    r101 = {"model.backbone": "resnet101.tv_in1k"}
    assert differences("coco_detr_r101") == r101
    dc5 = {"data.batch_size": 1, "model.strides": (16,), "model.dilation": True}
    assert differences("coco_detr_r50_dc5") == dc5
    assert differences("coco_detr_r101_dc5") == r101 | dc5


@pytest.fixture(scope="module", params=NAMES)
def built(request: pytest.FixtureRequest) -> tuple[str, Detr]:
    """Without downloading weights; batch norm is frozen as with them."""
    return request.param, build_model(settings(request.param).model, classes=91, for_checkpoint=True).train()


def trained(model: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_the_convolutions_of_the_last_three_stages_are_trained(built: tuple[str, Detr]) -> None:
    name, model = built
    with torch.device("meta"):
        reference = torchvision.models.resnet101() if "r101" in name else torchvision.models.resnet50()
    expected = {
        key: parameter.shape
        for key, parameter in reference.named_parameters()
        if key.startswith(("layer2.", "layer3.", "layer4.")) and parameter.ndim == 4
    }
    assert trained(model.backbone.network) == expected
    norms = [module for module in model.backbone.modules() if isinstance(module, FrozenBatchNorm)]
    assert len(norms) == sum(isinstance(module, nn.BatchNorm2d) for module in reference.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_the_number_of_trained_parameters_is_the_originals(built: tuple[str, Detr]) -> None:
    """With 91 classes; dilation does not change the number."""
    name, model = built
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert count == (60_242_272 if "r101" in name else 41_302_368)


def test_dilation_gives_four_times_as_many_tokens(built: tuple[str, Detr]) -> None:
    name, model = built
    with torch.no_grad():
        (features,) = model.backbone(torch.zeros(1, 3, 64, 96))
    assert features.shape == ((1, 2048, 4, 6) if "dc5" in name else (1, 2048, 2, 3))


@pytest.mark.stress
def test_all_but_frozen_parameters_have_a_gradient() -> None:
    config = settings("coco_detr_r50")
    model = build_model(config.model, classes=3, for_checkpoint=True).train()
    target = Target(torch.tensor([[0.5, 0.5, 0.4, 0.3]]), torch.tensor([1]), image_id=1, original_size=(64, 64))
    batch = Batch.from_images([torch.randn(3, 64, 64)], [target])
    build_criterion(config, classes=3)(model(batch), [target]).total.backward()
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == set(trained(model))


def test_the_loss_is_the_published_one() -> None:
    config = settings("coco_detr_r50")
    assert build_criterion(config, classes=91) == official_criterion(91)


def test_normalization_and_image_size() -> None:
    for name in NAMES:
        config = settings(name)
        assert normalization_of(config.model.backbone) == (MEAN, STD)
        assert build_resize(config.data) == ResizeRule("shortest", 800, 1333)
        assert config.data.augmentation == "detr"  # see tests/data/test_detr_augmentation.py


@pytest.fixture(scope="module")
def started(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run of coco_detr_r50.yaml just before its first step."""
    config = settings("coco_detr_r50")
    config = replace(
        config,
        data=replace(config.data, root=str(tiny_data), num_workers=0),
        trainer=replace(config.trainer, accelerator="cpu", devices=1),
    )
    caught: dict[str, Any] = {}

    def fit(trainer: L.Trainer, module: L.LightningModule, data: Any, **_: Any) -> None:
        caught.update(trainer=trainer, module=module, data=data)

    def without_fetching(description: Any) -> tuple[Detr, list[str]]:
        return build_model(description.config.model, len(description.categories), for_checkpoint=True), []

    folder = tmp_path_factory.mktemp("recipe") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(L.Trainer, "fit", fit)
        patch.setattr(detection, "initial_model", without_fetching)
        patch.setattr(run, "finish", lambda *_: None)
        run.train(Invocation(config, "coco_detr_r50", run_dir=folder, resume=None, overwrite=False))
    return SimpleNamespace(**caught)


def groups_of(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    return {group["name"]: group for group in optimizer.param_groups}


def test_learning_rates_and_weight_decay(started: Any) -> None:
    optimizer = started.module.configure_optimizers()
    groups = groups_of(optimizer)
    assert type(optimizer) is torch.optim.AdamW
    assert {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()} == {
        "backbone": (pytest.approx(1e-5), 1e-4),
        "transformer": (1e-4, 1e-4),
    }
    model = started.module.model
    members = {name: {id(parameter) for parameter in group["params"]} for name, group in groups.items()}
    backbone = {id(parameter) for parameter in model.backbone.parameters() if parameter.requires_grad}
    assert members["backbone"] == backbone
    assert members["transformer"] == {id(parameter) for parameter in model.parameters() if parameter.requires_grad} - (
        backbone
    )
    assert groups["transformer"]["betas"] == (0.9, 0.999)


@pytest.mark.parametrize("batches", [3697, 7393, 59143])  # in an epoch of COCO with batch sizes 32, 16 and 2
def test_the_learning_rate_drops_to_a_tenth_at_epoch_200(started: Any, batches: int) -> None:
    clock, schedule = (one_of(started.trainer.callbacks, kind) for kind in (TrainingProgress, LRSchedule))
    optimizer = started.module.configure_optimizers()
    last = batches - 1
    found = {}
    for epoch, batch in ((0, 0), (1, 0), (199, 0), (199, last), (200, 0), (200, 1), (299, 0), (299, last)):
        place = MagicMock(spec=L.Trainer)
        place.world_size, place.current_epoch, place.num_training_batches = 1, epoch, batches
        place.optimizers, place.global_step = [optimizer], epoch * batches + batch
        clock._update(place, batches=batch)
        schedule.on_train_batch_start(place, started.module, None, batch)
        found[epoch, batch] = {name: group["lr"] for name, group in groups_of(optimizer).items()}
    full = {"backbone": pytest.approx(1e-5), "transformer": pytest.approx(1e-4)}
    tenth = {"backbone": pytest.approx(1e-6), "transformer": pytest.approx(1e-5)}
    assert found == {place: full if place[0] < 200 else tenth for place in found}


def test_gradients_are_clipped_at_a_norm_of_a_tenth(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module: DetectionModule = started.module
    monkeypatch.setattr(module, "guard", None)  # it asks the trainer, which has none of this step
    optimizer = module.configure_optimizers()
    for parameter in module.model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    module.configure_gradient_clipping(optimizer)
    gradients = [parameter.grad for parameter in module.model.parameters() if parameter.grad is not None]
    assert nn.utils.get_total_norm(gradients) == pytest.approx(0.1, rel=1e-4)


def test_batches_epochs_and_precision(started: Any) -> None:
    trainer = started.trainer
    assert (trainer.max_epochs, trainer.accumulate_grad_batches, trainer.precision) == (300, 1, "32-true")
    assert started.data.batch_size == 2
    assert one_of(trainer.callbacks, TrainingProgress).num_evaluations == 300


def one_of(callbacks: list[L.Callback], kind: type) -> Any:
    (found,) = [callback for callback in callbacks if isinstance(callback, kind)]
    return found


def test_the_documented_values_are_those_of_the_preset() -> None:
    text = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
    config = settings("coco_detr_r50")
    documented: dict[str, Callable[[Config], Any]] = {
        "`optim.lr` | AdamW, 1e-4": lambda config: config.optim.lr == 1e-4,
        "`model.dim`, `model.heads` | 256, 8": lambda config: (config.model.dim, config.model.heads) == (256, 8),
        "`model.feedforward_dim` | 2048": lambda config: config.model.feedforward_dim == 2048,
        "`model.num_queries` | 100": lambda config: config.model.num_queries == 100,
        "`loss.no_object_weight` | 0.1": lambda config: config.loss.no_object_weight == 0.1,
        "`model.dropout` | 0.1": lambda config: config.model.dropout == 0.1,
        "`optim.max_grad_norm` | 0.1": lambda config: config.optim.max_grad_norm == 0.1,
    }
    for line, holds in documented.items():
        assert line in text
        assert holds(config)
