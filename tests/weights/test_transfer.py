"""Tensors that fit are copied, rows of classes by name, and every tensor is accounted for."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.weights.transfer import COUNTER, ModelWeights, TransferResult, summarize, transfer

SMALL = ModelConfig(
    backbone="resnet10t",
    pretrained=False,
    dim=32,
    heads=2,
    encoder_layers=1,
    decoder_layers=2,
    feedforward_dim=32,
    num_queries=6,
    denoising_queries=4,
)
ANIMALS = ("cat", "dog", "horse")

CLASS_PARTS = {
    "lite": "; in queries.denoising_embed (1 tensor), queries.token_label (2 tensors), heads.label (4 tensors)",
    "detr": ", and the background's; in heads.label (2 tensors)",
}
"""End of the line about classes: the tensors with a row for each."""


def weights(names: tuple[str, ...] = ANIMALS, seed: int = 0, **changes: Any) -> ModelWeights:
    """Of a model whose tensors depend on the seed."""
    config = replace(SMALL, **changes)
    torch.manual_seed(seed)
    state = {
        name: torch.randn(tensor.shape) if tensor.is_floating_point() else tensor + seed
        for name, tensor in build_model(config, len(names), for_checkpoint=True).state_dict().items()
    }
    return ModelWeights(state, names, config.backbone)


def checked_transfer(source: ModelWeights, target: ModelWeights) -> TransferResult:
    """The result of `transfer`, after checking that it accounts for each tensor correctly."""
    result = transfer(source, target)
    assert {name: tensor.shape for name, tensor in result.state.items()} == {
        name: tensor.shape for name, tensor in target.state.items()
    }
    names = [*result.copied, *result.by_class, *result.by_query, *result.initialized]
    assert len(names) == len(set(names))
    assert {*names} == {name for name in target.state if not name.endswith(COUNTER)}
    for name in result.copied:
        assert torch.equal(result.state[name], source.state[name])
    for name in result.initialized:
        assert torch.equal(result.state[name], target.state[name])
    missing = {name for name in source.state if name not in target.state and not name.endswith(COUNTER)}
    assert {*result.unused} == missing or source.backbone.split(".")[0] != target.backbone.split(".")[0]
    return result


@pytest.mark.parametrize("name", ["lite", "detr"])
def test_everything_is_copied_to_the_same_model(name: str) -> None:
    old = weights(name=name)
    result = checked_transfer(old, weights(name=name, seed=1))
    assert all(torch.equal(result.state[key], tensor) for key, tensor in old.state.items())
    assert result.initialized == result.unused == ()
    assert result.summary() == [
        f"{len(result.copied)} tensors copied",
        f"class rows: 3 of 3 by name (cat, dog, horse){CLASS_PARTS[name]}",
        "queries: 6 of 6 kept",
    ]


def class_tensors(name: str) -> list[str]:
    if name == "detr":
        return ["heads.label.weight", "heads.label.bias"]
    layers = [f"heads.label.{layer}.{kind}" for layer in (0, 1) for kind in ("weight", "bias")]
    return [
        *layers,
        "queries.token_label.weight",
        "queries.token_label.bias",
        "queries.denoising_embed.weight",
    ]


@pytest.mark.parametrize("name", ["lite", "detr"])
@pytest.mark.parametrize(
    "names",
    [("horse", "cat", "dog"), ("dog", "sheep", "Horse", "cow", "CAT"), ("dog",), ("sheep", "cow", "bird"), ()],
    ids=len,
)
@pytest.mark.slow
def test_rows_of_classes_are_matched_by_name(name: str, names: tuple[str, ...]) -> None:
    old, new = weights(name=name), weights(names, seed=1, name=name)
    result = checked_transfer(old, new)
    assert set(result.by_class) == set(class_tensors(name))
    for key in class_tensors(name):
        before, fresh, after = old.state[key], new.state[key], result.state[key]
        assert len(after) == len(names) + (name == "detr")
        for row, class_name in enumerate(names):
            known = class_name.lower() in ANIMALS
            assert torch.equal(after[row], before[ANIMALS.index(class_name.lower())] if known else fresh[row])
        if name == "detr":
            assert torch.equal(after[-1], before[-1]), "the background's row"
    assert result.initialized == result.unused == ()


@pytest.mark.slow
def test_the_summary_of_classes_and_queries() -> None:
    new = ("person", "dog", "sheep", "cat")
    lines = checked_transfer(weights(), weights(new, num_queries=4)).summary()
    parts = CLASS_PARTS["lite"]
    assert lines[1:] == [f"class rows: 2 of 4 by name (dog, cat), 2 new{parts}", "queries: 4 of 4 kept, 2 left out"]
    lines = checked_transfer(weights(), weights(("sheep",), num_queries=9)).summary()
    assert lines[1:] == [f"class rows: 0 of 1 by name, 1 new{parts}", "queries: 6 of 9 kept, 3 new"]
    many = tuple(f"kind {number}" for number in range(20))
    first = ", ".join(many[:8])
    assert f"20 of 20 by name ({first} and 12 more)" in checked_transfer(weights(many), weights(many)).summary()[1]


@pytest.mark.parametrize(("name", "key"), [("lite", "queries.content.weight"), ("detr", "queries.position.weight")])
@pytest.mark.parametrize("count", [1, 6, 10])
def test_the_first_queries_are_copied(name: str, key: str, count: int) -> None:
    old, new = weights(name=name), weights(seed=1, name=name, num_queries=count)
    result = checked_transfer(old, new)
    assert result.by_query == (key,)
    copied = min(count, 6)
    assert torch.equal(result.state[key][:copied], old.state[key][:copied])
    assert torch.equal(result.state[key][copied:], new.state[key][copied:])


@pytest.mark.slow
def test_fewer_or_more_layers() -> None:
    fewer = checked_transfer(weights(), weights(seed=1, decoder_layers=1, encoder_layers=0))
    assert fewer.initialized == ()
    assert {key.rsplit(".", 1)[0] for key in fewer.unused if key.startswith("heads.label")} == {"heads.label.1"}
    assert fewer.summary()[-1].startswith("not used: encoder.layers (")
    more = checked_transfer(weights(), weights(seed=1, decoder_layers=3))
    assert {".".join(key.split(".")[:3]) for key in more.initialized if key.startswith("decoder")} >= {
        "decoder.layers.2"
    }
    assert "heads.label.2 (2 tensors)" in more.summary()[-1]
    assert more.unused == ()


@pytest.mark.slow
def test_nothing_in_the_transformer_fits_another_dim() -> None:
    assert checked_transfer(weights(), weights()).has_transformer
    wide = checked_transfer(weights(), weights(dim=64))
    assert not wide.has_transformer
    assert any("feedforward" in key for key in wide.copied), "biases may fit, but do not count"
    assert checked_transfer(weights(), weights(feedforward_dim=64)).has_transformer


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k"])
@pytest.mark.slow
def test_nothing_is_copied_between_different_backbones(name: str) -> None:
    old, new = weights(backbone="resnet34"), weights(seed=1, backbone=name)
    fitting = [key for key in new.state if key in old.state and key.startswith("backbone.")]
    assert fitting, "some have the same name and shape"
    result = checked_transfer(old, new)
    assert {key for key in result.initialized if key.startswith("backbone.")} == {
        key for key in new.state if key.startswith("backbone.") and not key.endswith(COUNTER)
    }
    assert result.unused == ()
    assert "newly initialized: backbone (" in result.summary()[-1]


@pytest.mark.slow
def test_the_tag_of_the_backbone_does_not_matter() -> None:
    assert checked_transfer(weights(backbone="resnet18"), weights(backbone="resnet18.a1_in1k")).initialized == ()


def test_another_stride_needs_more_stages() -> None:
    result = checked_transfer(weights(strides=(16,)), weights(seed=1, strides=(16, 32)))
    stages = {key.split(".")[2] for key in result.initialized if key.startswith("backbone.")}
    assert stages == {"layer4"}
    assert "backbone.network.layer4 (" in result.summary()[-1]
    assert "encoder.neck (" in result.summary()[-1]


@pytest.mark.parametrize("is_frozen", [False, True])
def test_transfer_between_frozen_and_trained_batch_norm(is_frozen: bool) -> None:
    old, new = weights(pretrained=is_frozen), weights(seed=1, pretrained=not is_frozen)
    result = checked_transfer(old, new)
    assert result.initialized == result.unused == ()


def test_common_layers_are_copied_between_lite_and_detr() -> None:
    result = checked_transfer(weights(name="lite"), weights(seed=1, name="detr"))
    assert result.has_transformer
    assert result.by_class == result.by_query == ()
    assert {"heads.label.weight", "queries.position.weight"} <= set(result.initialized)
    assert {"heads.label.0.weight", "queries.denoising_embed.weight"} <= set(result.unused)
    assert not any(line.startswith(("class rows", "queries")) for line in result.summary())


def test_a_class_layer_that_does_not_match_its_names_is_not_copied() -> None:
    old = weights(name="detr")
    mismatched = ModelWeights(
        old.state, (*ANIMALS, "sheep"), old.backbone
    )  # four names for three classes and background
    result = checked_transfer(mismatched, weights(seed=1, name="detr"))
    assert set(result.initialized) == set(class_tensors("detr"))


def test_half_precision_is_converted_to_the_dtype_of_the_target() -> None:
    old = weights()
    halves: dict[str, Tensor] = {
        key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in old.state.items()
    }
    result = transfer(ModelWeights(halves, old.class_names, old.backbone), weights(seed=1))
    assert {tensor.dtype for tensor in result.state.values() if tensor.is_floating_point()} == {torch.float32}


def test_the_inputs_are_not_changed() -> None:
    old, new = weights(), weights(("dog", "cow"), seed=1, num_queries=9)
    before = {key: tensor.clone() for key, tensor in (old.state | new.state).items()}
    result = transfer(old, new)
    for key in result.by_class + result.by_query:
        result.state[key].zero_()
    assert all(torch.equal(before[key], tensor) for key, tensor in (old.state | new.state).items())


def test_complete_modules_are_summarized() -> None:
    names = [f"a.{layer}.{part}.{kind}" for layer in (0, 1, 2) for part in ("x", "y") for kind in ("weight", "bias")]
    assert summarize(names, names) == "a (12 tensors)"
    assert summarize(names[:4], names) == "a.0 (4 tensors)"
    assert summarize(names[:8], names) == "a.0-1 (8 tensors)"
    assert summarize(names[:4] + names[8:], names) == "a.0,2 (8 tensors)"
    assert summarize([name for name in names if ".x." in name], names) == "a.0-2.x (6 tensors)"
    assert summarize(["a.0.x.weight"], names) == "a.0.x.weight"
    assert summarize(["a.0.x.weight", "a.1.x.weight"], names) == "a.0-1.x.weight (2 tensors)"
    assert summarize(["b.c.weight"], [*names, "b.c.weight"]) == "b (1 tensor)"
    assert summarize(["b.c.weight"], [*names, "b.c.weight", f"b.c.{COUNTER}"]) == "b (1 tensor)"
    assert summarize(
        ["b.0.c.1.weight", "b.0.c.2.weight", "a.0.x.bias"], [*names, "b.0.c.1.weight", "b.0.c.2.weight"]
    ) == ("b (2 tensors), a.0.x.bias")
