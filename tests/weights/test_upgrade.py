"""Checkpoints of the format before: the same predictions, without the parameters that the softmax cancels."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detr_lite.build import build_model
from detr_lite.config import Config, Invocation
from detr_lite.data.transforms import MEAN, STD, ResizeRule
from detr_lite.model.detr import Detr
from detr_lite.structures import Batch, Category, DetrLiteError
from detr_lite.training.state.resume import find_resume_point
from detr_lite.weights.checkpoint import KEY, Description, load_model

CATEGORIES = tuple(Category(number, str(number)) for number in range(3))


def old_checkpoint(config: Config, path: Path) -> Detr:
    """Write weights of format 5, with random biases where there are none now; returns the model that has them."""
    torch.manual_seed(0)
    model = build_model(config.model, len(CATEGORIES)).eval()
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.bias is None:
            module.bias = nn.Parameter(torch.randn(module.out_features))
    description = Description(config, CATEGORIES, ResizeRule("longest", 64), MEAN, STD)
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    content: dict[str, Any] = {KEY: {**description.to_dict(), "format": 5}, "state_dict": state, "global_step": 3}
    torch.save(content, path)
    return model


@pytest.mark.parametrize("name", ["lite", "detr"])
@pytest.mark.slow
def test_the_format_before_gives_the_same_predictions(tiny_config: Config, tmp_path: Path, name: str) -> None:
    config = replace(tiny_config, model=replace(tiny_config.model, name=name))
    old = old_checkpoint(config, tmp_path / "old.ckpt")
    model, _ = load_model(tmp_path / "old.ckpt")
    batch = Batch.from_images([torch.randn(3, 64, 48)])
    with torch.no_grad():
        before, after = old(batch), model(batch)
    torch.testing.assert_close(after.logits, before.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.boxes_cxcywh, before.boxes_cxcywh, atol=1e-5, rtol=1e-4)
    gone = set(old.state_dict()) - set(model.state_dict())
    assert len(gone) == (0 if name == "detr" else 2 * 2 + 2 + 2 * 2 + 2 + 1)


def test_a_run_of_the_format_before_starts_anew(tiny_config: Config, tmp_path: Path) -> None:
    """Its optimizer has a state for parameters that there no longer are."""
    old_checkpoint(tiny_config, tmp_path / "last.ckpt")
    invocation = Invocation(tiny_config, "tiny", tmp_path, resume=str(tmp_path / "last.ckpt"), overwrite=False)
    with pytest.raises(DetrLiteError, match=r"earlier version, .* start a new run with --model.init_from"):
        find_resume_point(invocation)
