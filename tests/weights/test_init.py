"""The initial model of a run: what is downloaded, what is frozen, and the notes."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detr_lite.build import build_model
from detr_lite.config import Config
from detr_lite.data.transforms import MEAN, STD, ResizeRule
from detr_lite.model.detr import Detr
from detr_lite.model.frozen import FrozenBatchNorm
from detr_lite.structures import Category, DetrLiteError
from detr_lite.weights import init
from detr_lite.weights.checkpoint import KEY, Description
from detr_lite.weights.init import initial_model
from tests.helpers.reference_models import original_detr, save_pth, transformers_detr

CATEGORIES = (Category(3, "blue thing"), Category(7, "red thing"), Category(90, "green thing"))


def described(config: Config, categories: tuple[Category, ...] = CATEGORIES, **model: Any) -> Description:
    config = replace(config, model=replace(config.model, **model))
    return Description(config, categories, ResizeRule("longest", 64), MEAN, STD)


@pytest.fixture
def save(tiny_config: Config, tmp_path: Path) -> Callable[..., tuple[str, Detr]]:
    """A checkpoint of an untrained model with these settings."""

    def make(**changes: Any) -> tuple[str, Detr]:
        torch.manual_seed(5)
        description = described(tiny_config, **changes)
        model = build_model(description.config.model, len(description.categories), for_checkpoint=True)
        path = tmp_path / "source.ckpt"
        state = {f"model.{name}": value for name, value in model.state_dict().items()}
        torch.save({KEY: description.to_dict(), "state_dict": state}, path)
        return str(path), model

    return make


@pytest.fixture
def downloaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The backbones whose pretrained weights were requested; all of them are set to one."""
    backbones: list[str] = []

    def build(config: Any, classes: int, for_checkpoint: bool = False) -> Detr:
        model = build_model(config, classes, for_checkpoint=True)
        if config.pretrained and not for_checkpoint:
            backbones.append(config.backbone)
            for values in model.backbone.network.state_dict().values():
                values.fill_(1)
        return model

    monkeypatch.setattr(init, "build_model", build)
    return backbones


def test_without_a_checkpoint_there_are_no_notes(tiny_config: Config, downloaded: list[str]) -> None:
    _, lines = initial_model(described(tiny_config, pretrained=True))
    assert lines == []
    assert downloaded == ["resnet10t"]


@pytest.mark.parametrize("was_pretrained", [False, True])
@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.slow
def test_the_backbone_of_a_checkpoint_is_not_downloaded(
    tiny_config: Config, save: Any, downloaded: list[str], was_pretrained: bool, pretrained: bool
) -> None:
    path, given = save(pretrained=was_pretrained)
    model, lines = initial_model(described(tiny_config, init_from=path, pretrained=pretrained))
    assert downloaded == []
    state = given.state_dict()
    for name, value in model.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(value, state[name])
    norms = FrozenBatchNorm if pretrained else nn.BatchNorm2d
    assert sum(isinstance(module, norms) for module in model.modules()) > 5
    other = nn.BatchNorm2d if pretrained else FrozenBatchNorm
    assert not any(isinstance(module, other) for module in model.modules())
    assert re.fullmatch(rf"from {re.escape(path)}: \d+ tensors copied", lines[0])
    assert any(
        line.startswith("class rows: 3 of 3 by name (blue thing, red thing, green thing); in ") for line in lines
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"backbone": "resnet18"}, "newly initialized: backbone ("),
        ({"strides": (16, 32)}, "newly initialized: backbone.network.layer4 ("),
    ],
)
@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.slow
def test_missing_weights_of_the_backbone_are_timms(
    tiny_config: Config, save: Any, downloaded: list[str], change: dict[str, Any], what: str, pretrained: bool
) -> None:
    """Frozen batch norm with random statistics would not normalize."""
    path, given = save()
    model, lines = initial_model(described(tiny_config, init_from=path, pretrained=pretrained, **change))
    assert downloaded == ([change.get("backbone", "resnet10t")] if pretrained else [])
    assert ("newly initialized weights of the backbone are pretrained ones" in lines) == pretrained
    (line,) = [line for line in lines if line.startswith("newly initialized: ")]
    assert what in line
    state = model.backbone.network.state_dict()
    if pretrained:
        assert state["layer4.0.bn1.weight" if "strides" in change else "conv1.weight"].eq(1).all()
    if "strides" in change:
        source = given.backbone.network.state_dict()
        assert torch.equal(state["layer1.0.conv1.weight"], source["layer1.0.conv1.weight"])


@pytest.mark.slow
def test_notes_list_settings_that_differ(tiny_config: Config, save: Any) -> None:
    path, _ = save()
    _, lines = initial_model(described(tiny_config, init_from=path, heads=4, strides=(8, 16)))
    assert "settings that differ: strides [8, 16] (checkpoint: [16]), heads 4 (checkpoint: 2)" in lines
    for change in ({}, {"backbone": "resnet10t.c3_in1k"}):  # the tag names pretrained weights
        _, lines = initial_model(described(tiny_config, init_from=path, **change))
        assert not any(line.startswith("settings that differ") for line in lines)


@pytest.mark.slow
def test_notes_name_another_normalization(tiny_config: Config, save: Any) -> None:
    path, _ = save()
    description = replace(described(tiny_config, init_from=path), mean=(0.5, 0.5, 0.5))
    _, lines = initial_model(description)
    assert lines[-1].startswith("pixels are normalized with mean (0.5, 0.5, 0.5)")
    assert str(MEAN) in lines[-1]


@pytest.mark.slow
def test_a_transformer_in_which_nothing_fits_is_an_error(tiny_config: Config, save: Any) -> None:
    path, _ = save()
    with pytest.raises(DetrLiteError) as caught:
        initial_model(described(tiny_config, init_from=path, dim=64, heads=4))
    assert str(caught.value) == (
        f"--model.init_from {path}: nothing in its transformer fits "
        "(dim 64 (checkpoint: 32), heads 4 (checkpoint: 2)); "
        "give the settings that it was trained with"
    )


@pytest.mark.parametrize("content", [None, b"", b"no checkpoint"])
def test_a_file_that_is_no_checkpoint_is_an_error_of_one_line(
    tiny_config: Config, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "some.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DetrLiteError, match=rf"^--model.init_from: {path}: ") as caught:
        initial_model(described(tiny_config, init_from=str(path)))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_notes_warn_of_a_frozen_first_stage_with_random_weights(
    tiny_config: Config, save: Any, downloaded: list[str]
) -> None:
    def warns(**changes: Any) -> bool:
        _, lines = initial_model(described(tiny_config, freeze_first_stage=True, **changes))
        return any("frozen with random weights" in line for line in lines)

    path, _ = save()
    assert warns()
    assert not warns(pretrained=True)
    assert not warns(init_from=path)
    assert warns(init_from=path, backbone="resnet18")
    assert not warns(init_from=path, backbone="resnet18", pretrained=True)


@pytest.mark.parametrize("kind", ["original", "transformers"])
@pytest.mark.slow
def test_external_weights_initialize_a_model_with_other_classes(tiny_config: Config, tmp_path: Path, kind: str) -> None:
    """The original's label of a COCO category is its id; unused rows are not copied."""
    if kind == "original":
        original, arguments = original_detr()
        path = save_pth(tmp_path / "detr.pth", original, arguments)
        rows, background = original.class_embed.weight, original.class_embed.weight[91]
        positions = original.query_embed.weight
    else:
        reference = transformers_detr()
        path = tmp_path / "detr"
        reference.save_pretrained(path)
        rows, background = reference.class_labels_classifier.weight, reference.class_labels_classifier.weight[91]
        positions = reference.model.query_position_embeddings.weight
    sizes = {"dim": 32, "heads": 4, "encoder_layers": 2, "decoder_layers": 3, "feedforward_dim": 48, "num_queries": 5}
    categories = (Category(0, "Dog"), Category(5, "balloon"), Category(9, "person"), Category(12, "N/A"))
    settings = {"name": "detr", "backbone": "resnet18", "strides": (32,), **sizes}
    model, lines = initial_model(described(tiny_config, categories, init_from=str(path), **settings))

    state = model.state_dict()
    assert torch.equal(state["heads.label.weight"][[0, 2, 4]], torch.stack([rows[18], rows[1], background]))
    assert not any(torch.equal(state["heads.label.weight"][1], row) for row in rows)
    assert torch.equal(state["queries.position.weight"], positions[:5])
    background = "and the background's; in heads.label (2 tensors)"
    assert f"class rows: 2 of 4 by name (Dog, person), 2 new, {background}" in lines
    assert "queries: 5 of 5 kept, 2 left out" in lines
    assert any(line.startswith("format: ") for line in lines)
    assert not any(line.startswith(("newly initialized", "not used", "settings that differ")) for line in lines), lines


@pytest.mark.slow
def test_settings_of_the_run_replace_what_a_file_does_not_show(tiny_config: Config, tmp_path: Path) -> None:
    """Weights alone, without DC5 and heads; the notes say that COCO's names are assumed."""
    original, _ = original_detr()
    path = tmp_path / "hub.pth"
    torch.save({"model": original.state_dict()}, path)
    sizes = {"dim": 32, "heads": 4, "encoder_layers": 2, "decoder_layers": 3, "feedforward_dim": 48}
    settings = {"name": "detr", "backbone": "resnet18", "strides": (16,), "dilation": True, **sizes}
    _, lines = initial_model(described(tiny_config, init_from=str(path), **settings))
    assert "backbone: resnet18; DC5: yes (assumed, as weights do not show it; set --dc5)" in lines
    assert "classes: 80, COCO's, assumed from 92 rows; 11 more rows are unused" in lines
    assert not any(line.startswith("settings that differ") for line in lines)
