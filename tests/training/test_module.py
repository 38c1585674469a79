"""What happens in a step: losses, clipping under every precision, and the detections that are evaluated."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from detr_lite.build import build_criterion, build_model, build_postprocess
from detr_lite.config import Config
from detr_lite.data.reading import read_split
from detr_lite.data.transforms import ResizeRule, evaluation_transform
from detr_lite.structures import Batch, DetrOutput, Target
from detr_lite.training.datamodule import make_loader
from detr_lite.training.module import DetectionModule
from detr_lite.training.optim import make_optimizer, parameter_groups

RESIZE = ResizeRule("longest", 64)


@pytest.fixture
def make_module(tiny_config: Config, tiny_data: Path) -> Callable[..., DetectionModule]:
    """A module of `tiny_config`. `steps` gets the norm of the gradients that each step of the optimizer took."""

    def make(
        max_grad_norm: float, fused: bool = True, steps: list[float] | None = None, lr: float = 1e-3
    ) -> DetectionModule:
        val = read_split(tiny_data, "val")

        def optimizer(model: nn.Module) -> torch.optim.Optimizer:
            made = make_optimizer(parameter_groups(model, lr, 1.0, 1e-4, False), fused)
            if steps is not None:
                made.register_step_post_hook(lambda *_: steps.append(norm_of_gradients(model)))
            return made

        torch.manual_seed(0)
        return DetectionModule(
            model=build_model(tiny_config.model, len(val.categories)),
            criterion=build_criterion(tiny_config, classes=3),
            postprocess=build_postprocess(tiny_config.model, [category.name for category in val.categories]),
            val=val,
            make_optimizer=optimizer,
            max_grad_norm=max_grad_norm,
        )

    return make


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_evaluations_compute_in_float32_whatever_training_does(
    make_module: Callable[..., DetectionModule], tiny_data: Path, precision: str
) -> None:
    module, types = make_module(max_grad_norm=1.0), {True: set(), False: set()}
    for part in module.model.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda part, _, output: types[part.training].add(output.dtype))
    trainer = fit(module, tiny_data, precision=precision)
    val = make_loader(read_split(tiny_data, "val"), evaluation_transform(RESIZE), RESIZE, batch_size=2, num_workers=0)
    trainer.validate(module, val, verbose=False)
    assert types == {True: {torch.float32 if precision == "32-true" else torch.bfloat16}, False: {torch.float32}}


def norm_of_gradients(model: nn.Module) -> float:
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm())


def fit(module: L.LightningModule, root: Path, **options) -> L.Trainer:
    split = read_split(root, "train")
    loader = make_loader(split, evaluation_transform(RESIZE), RESIZE, batch_size=2, num_workers=0)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )
    trainer.fit(module, loader)
    return trainer


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.slow
def test_gradients_are_clipped(
    make_module: Callable[..., DetectionModule], tiny_data: Path, precision: str, fused: bool
) -> None:
    clipped: list[float] = []
    free: list[float] = []
    fit(make_module(max_grad_norm=0.01, fused=fused, steps=clipped), tiny_data, precision=precision)
    fit(make_module(max_grad_norm=0.0, fused=fused, steps=free), tiny_data, precision=precision)
    assert len(clipped) == len(free) == 5
    assert clipped == pytest.approx([0.01] * 5, rel=1e-3)
    assert min(free) > 0.1


@pytest.mark.slow
def test_accumulated_batches_make_one_step(make_module: Callable[..., DetectionModule], tiny_data: Path) -> None:
    steps: list[float] = []
    trainer = fit(make_module(max_grad_norm=1.0, steps=steps), tiny_data, accumulate_grad_batches=3)
    assert len(steps) == trainer.global_step == 2  # of three batches, and of the one that is left


@pytest.mark.slow
def test_the_loss_and_its_parts_are_logged(make_module: Callable[..., DetectionModule], tiny_data: Path) -> None:
    metrics = fit(make_module(max_grad_norm=1.0), tiny_data, precision="32-true").callback_metrics
    assert {"loss", "loss_class", "loss_l1", "loss_giou", "loss_token_class", "loss_denoising_l1"} <= set(metrics)
    assert all(torch.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("objects", [[0, 0], [0, 2], [3, 9]])
def test_a_batch_trains_every_parameter_however_many_objects_it_has(
    make_module: Callable[..., DetectionModule], objects: list[int]
) -> None:
    module = make_module(max_grad_norm=1.0)
    module.log_dict = lambda *_, **__: None
    targets = [
        Target(torch.rand(count, 4) * 0.2 + 0.3, torch.randint(0, 3, (count,)), image, (64, 64))
        for image, count in enumerate(objects)
    ]
    loss = module.training_step(Batch.from_images([torch.randn(3, 64, 48), torch.randn(3, 32, 64)], targets), 0)
    loss.backward()
    assert torch.isfinite(loss)
    assert [name for name, parameter in module.named_parameters() if parameter.grad is None] == []


@pytest.mark.slow
def test_an_image_that_two_ranks_saw_counts_once(make_module: Callable[..., DetectionModule], tiny_data: Path) -> None:
    module = make_module(max_grad_norm=1.0).eval()
    logged: dict[str, Tensor] = {}
    module.log_dict = lambda numbers, **_: logged.update(numbers)
    loader = make_loader(read_split(tiny_data, "val"), evaluation_transform(RESIZE), RESIZE, 2, num_workers=0)
    with torch.no_grad():
        for index, batch in enumerate(loader):
            module.validation_step(batch, index)
            module.validation_step(batch, index)
        assert sorted(module.detections) == [0, 1, 2, 3, 4]
        module.on_validation_epoch_end()
    assert logged["AP"].dtype == torch.float64
    assert module.detections == {}


@pytest.mark.slow
def test_detections_of_all_ranks_are_gathered(
    make_module: Callable[..., DetectionModule], tiny_data: Path, tmp_path: Path
) -> None:
    """With a group of one: what is exchanged is the same."""
    module = make_module(max_grad_norm=1.0).eval()
    logged: list[dict[str, Tensor]] = []
    module.log_dict = lambda numbers, **_: logged.append(numbers)
    loader = make_loader(read_split(tiny_data, "val"), evaluation_transform(RESIZE), RESIZE, 2, num_workers=0)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        for _ in ("in a group", "alone"):
            with torch.no_grad():
                for index, batch in enumerate(loader):
                    module.validation_step(batch, index)
            module.on_validation_epoch_end()
            if dist.is_initialized():
                dist.destroy_process_group()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    assert logged[0] == logged[1]


def test_a_perfect_answer_scores_one(make_module: Callable[..., DetectionModule], tiny_data: Path) -> None:
    """From labels to the data set's own ids, and from relative boxes to its pixels."""
    module = make_module(max_grad_norm=1.0)
    logged: dict[str, Tensor] = {}
    module.log_dict = lambda numbers, **_: logged.update(numbers)

    class Knows(nn.Module):
        def forward(self, batch: Batch) -> DetrOutput:
            logits = torch.full((1, len(batch.targets), 6, 3), -9.0)
            boxes_cxcywh = torch.full((1, len(batch.targets), 6, 4), 0.5)
            for image, target in enumerate(batch.targets):
                for query, (label, box) in enumerate(zip(target.labels, target.boxes_cxcywh, strict=True)):
                    logits[0, image, query, label] = 9.0
                    boxes_cxcywh[0, image, query] = box
            return DetrOutput(logits, boxes_cxcywh)

    module.model = Knows()
    loader = make_loader(read_split(tiny_data, "val"), evaluation_transform(RESIZE), RESIZE, 2, num_workers=0)
    for index, batch in enumerate(loader):
        module.validation_step(batch, index)
    module.on_validation_epoch_end()
    assert logged["AP"] == pytest.approx(1.0)


EXPECTED = {
    "lite": [54.248100, 50.925095, 49.977734, 50.003990, 46.335800],
    "detr": [3.587083, 3.313682, 3.185145, 3.268114, 3.215167],
}
"""Losses of the first five steps; a refactoring reproduces them."""


@pytest.mark.parametrize("name", ["lite", "detr"])
@pytest.mark.slow
def test_the_seeded_loss_curve(name: str, tiny_config: Config) -> None:
    layers = 2 if name == "lite" else 1
    config = replace(tiny_config, model=replace(tiny_config.model, name=name, decoder_layers=layers))
    torch.manual_seed(1)
    model, criterion = build_model(config.model, classes=3).train(), build_criterion(config, classes=3)
    # Not AdamW, whose first steps make as much of a gradient's rounding error as of a gradient; and small steps, or the
    # order in which threads add up shows after a few of them.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.003)
    images = [torch.randn(3, 64, 48), torch.randn(3, 40, 64)]
    targets = [
        Target(torch.rand(count, 4) * 0.3 + 0.3, torch.randint(0, 3, (count,)), image, (64, 64))
        for image, count in enumerate((3, 0))
    ]
    losses = []
    for _ in range(5):
        loss = criterion(model(Batch.from_images(images, targets)), targets).total
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses == pytest.approx(EXPECTED[name], rel=1e-4)
