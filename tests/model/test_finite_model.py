"""Finite losses and gradients for images of padding alone, and for pixels and objects of any size."""

from contextlib import AbstractContextManager

import pytest
import torch

from detr_lite.build import build_criterion, build_model
from detr_lite.config import Config, ModelConfig
from detr_lite.structures import Batch, Target

MODELS = {
    "lite": ModelConfig(name="lite", pretrained=False, dim=32, heads=2, num_queries=6, denoising_queries=8),
    "lite of three levels": ModelConfig(pretrained=False, dim=32, heads=2, num_queries=6, strides=(8, 16, 32)),
    "lite with the most noise": ModelConfig(
        pretrained=False, dim=32, heads=2, num_queries=6, denoising_queries=8, denoising_noise=1.0
    ),
    "detr": ModelConfig(name="detr", pretrained=False, dim=32, heads=2, num_queries=6),
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def autocast(dtype: torch.dtype) -> AbstractContextManager:
    is_half = dtype != torch.float32
    return torch.autocast("cpu", dtype if is_half else torch.bfloat16, enabled=is_half)


def make_batch(objects: tuple[int, ...]) -> Batch:
    targets = [
        Target(torch.rand(count, 4) * 0.3 + 0.3, torch.randint(0, 3, (count,)), index, (64, 64))
        for index, count in enumerate(objects)
    ]
    return Batch.from_images([torch.randn(3, 64, 48 + 16 * (index % 2)) for index in range(len(objects))], targets)


def assert_training_step_is_finite(
    name: str, batch: Batch, dtype: torch.dtype = torch.float32, need_attention: bool = False
) -> None:
    """Predictions, loss, gradients and attention are finite."""
    torch.manual_seed(0)
    config = Config(model=MODELS[name])
    model = build_model(config.model, classes=3).train()
    with autocast(dtype):
        output = model(batch, need_attention=need_attention)
        losses = build_criterion(config, classes=3)(output, batch.targets)
    losses.total.backward()
    assert output.logits.isfinite().all()
    assert output.boxes_cxcywh.isfinite().all()
    assert losses.total.isfinite()
    assert losses.not_finite == ()
    assert all(value.grad.isfinite().all() for value in model.parameters())
    if need_attention:
        for weights in (output.attention.cross, output.attention.queries, output.attention.encoder):
            assert weights.isfinite().all()
            torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))


@pytest.mark.stress
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("need_attention", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_images_of_padding_alone_are_finite(name: str, need_attention: bool, dtype: torch.dtype) -> None:
    """With and without objects."""
    torch.manual_seed(1)
    batch = make_batch((2, 3, 0))
    batch.is_padding[1:] = True
    assert_training_step_is_finite(name, batch, dtype, need_attention)


@pytest.mark.parametrize("name", MODELS)
def test_an_image_of_padding_alone_does_not_change_the_other(name: str) -> None:
    torch.manual_seed(1)
    model = build_model(MODELS[name], classes=3).eval()
    batch = make_batch((1, 1))
    alone = model(Batch(batch.images[:1], batch.is_padding[:1]))
    batch.is_padding[1] = True
    torch.testing.assert_close(model(batch).logits[:, :1], alone.logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pixels", [0.0, 1e-30, 1e3])
@pytest.mark.parametrize("name", ["lite", "detr"])
@pytest.mark.slow
def test_pixels_of_any_size_are_finite(name: str, pixels: float, dtype: torch.dtype) -> None:
    """Constant, tiny, and brighter than any image."""
    torch.manual_seed(1)
    batch = make_batch((2, 1))
    batch.images.mul_(pixels)
    assert_training_step_is_finite(name, batch, dtype)


@pytest.mark.parametrize("name", ["lite", "detr"])
def test_objects_of_any_size_are_finite(name: str) -> None:
    batch = make_batch((6, 1))
    boxes = [[0.5, 0.5, 0, 0], [0, 0, 0, 0], [1, 1, 1e-9, 1e-9], [0.5, 0.5, 1, 1], [0.5, 0.5, 1, 0], [1, 0, 1e-4, 1]]
    batch.targets[0].boxes_cxcywh.copy_(torch.tensor(boxes))
    assert_training_step_is_finite(name, batch)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("objects", [(7,), (60, 0)])
def test_more_objects_than_queries_are_finite(name: str, objects: tuple[int, ...]) -> None:
    assert_training_step_is_finite(name, make_batch(objects))


@pytest.mark.parametrize("name", MODELS)
def test_a_pixel_that_is_not_finite_gives_a_nan_loss(name: str) -> None:
    config = Config(model=MODELS[name])
    model = build_model(config.model, classes=3).train()
    batch = make_batch((2, 1))
    batch.images[0, 1, 5, 5] = torch.nan
    assert build_criterion(config, classes=3)(model(batch), batch.targets).total.isnan()
