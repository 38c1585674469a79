"""Loss, matches and gradients of `detr` equal those of `transformers`."""

import pytest
import torch

from benchmarks.hf_reference import hf_reference_losses, hf_reference_matches, hf_reference_outputs, random_batch
from benchmarks.parity import detr_lite_matches, gradient_differences
from benchmarks.parity_models import Sizes, make_parity_models
from detr_lite.build import build_criterion
from detr_lite.config import Config, ModelConfig
from detr_lite.loss import Losses, official_criterion
from detr_lite.structures import DetrOutput

pytestmark = pytest.mark.slow

SMALL = Sizes(body="resnet18", dim=64, heads=4, layers=2, feedforward_dim=96, queries=12, classes=5)
OBJECTS = [(0, 0), (1,), (3, 0, 7), (15, 2)]  # the last: more objects than queries


def assert_same_losses(losses: Losses, expected: Losses) -> None:
    assert losses.parts.keys() == {"ce", "l1", "giou"}
    for name, values in losses.parts.items():
        torch.testing.assert_close(values, expected.parts[name], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses.total, expected.total, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objects", OBJECTS)
@pytest.mark.parametrize("layers", [1, 6])
def test_loss_and_matches_of_the_same_predictions(objects, layers):
    """Of random predictions, without a model."""
    reference, _ = make_parity_models(Sizes("resnet18", 32, 1, layers, 32, queries=12, classes=5), seed=0)
    generator = torch.Generator().manual_seed(len(objects))
    batch = random_batch([(32, 32)] * len(objects), objects, 5, generator)
    logits = torch.randn(layers, len(objects), 12, 6, generator=generator)
    boxes = torch.rand(layers, len(objects), 12, 4, generator=generator) * 0.4 + 0.1
    gradients = []
    for is_reference in (False, True):
        leaves = logits.clone().requires_grad_(), boxes.clone().requires_grad_()
        output = DetrOutput(*leaves)
        expected = hf_reference_losses(reference, output, batch.targets)
        losses = official_criterion(5)(output, batch.targets)
        assert_same_losses(losses, expected)
        (expected if is_reference else losses).total.backward()
        gradients.append([leaf.grad for leaf in leaves])
    pairs = detr_lite_matches(DetrOutput(logits, boxes), batch.targets)
    assert pairs == hf_reference_matches(reference, DetrOutput(logits, boxes), batch.targets)
    assert len(pairs) == layers * sum(min(count, 12) for count in objects)
    for gradient, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objects", OBJECTS)
def test_loss_and_gradients_through_the_whole_model(objects):
    sides = [(70, 101), (129, 33), (31, 47)][: len(objects)]
    reference, detr = make_parity_models(SMALL, seed=1)
    batch = random_batch(sides, objects, 5, torch.Generator().manual_seed(0))
    assert_gradients_agree(reference, detr, batch)


@pytest.mark.stress
def test_loss_and_gradients_at_full_size():
    reference, detr = make_parity_models(Sizes(), seed=1)
    batch = random_batch([(200, 300), (321, 150)], (6, 2), 91, torch.Generator().manual_seed(0))
    assert_gradients_agree(reference, detr, batch)


def assert_gradients_agree(reference, detr, batch) -> None:
    expected, output = hf_reference_outputs(reference, batch), detr(batch)
    expected_losses = hf_reference_losses(reference, expected, batch.targets)
    losses = official_criterion(detr.heads.label.out_features - 1)(output, batch.targets)
    assert detr_lite_matches(output, batch.targets) == hf_reference_matches(reference, expected, batch.targets)
    assert_same_losses(losses, expected_losses)
    expected_losses.total.backward()
    losses.total.backward()
    differences = gradient_differences(reference, detr)
    assert differences.keys() == dict(detr.named_parameters()).keys()
    assert {name: value for name, value in differences.items() if not value < 1e-4} == {}


def test_the_default_loss_of_detr_is_the_official_one():
    assert build_criterion(Config(model=ModelConfig(name="detr")), classes=7) == official_criterion(7)
