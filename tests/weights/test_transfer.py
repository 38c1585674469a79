"""What fits is copied, row for row by name where rows are classes, and every tensor is accounted for."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.weights.transfer import COUNTER, Transfer, Weights, match_names, summarise, transfer

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
"""How the line of the classes ends: the tensors that have a row for each."""


def weights(names: tuple[str, ...] = ANIMALS, seed: int = 0, **changes: Any) -> Weights:
    """Of a model all of whose tensors differ from those of another seed."""
    config = replace(SMALL, **changes)
    torch.manual_seed(seed)
    state = {
        name: torch.randn(tensor.shape) if tensor.is_floating_point() else tensor + seed
        for name, tensor in build_model(config, len(names), for_checkpoint=True).state_dict().items()
    }
    return Weights(state, names, config.backbone)


def moved(old: Weights, new: Weights) -> Transfer:
    """The transfer, of which it is seen that it accounts for each tensor as it says."""
    result = transfer(old, new)
    assert {name: tensor.shape for name, tensor in result.state.items()} == {
        name: tensor.shape for name, tensor in new.state.items()
    }
    told = [*result.kept, *result.by_class, *result.by_query, *result.reset]
    assert len(told) == len(set(told))
    assert {*told} == {name for name in new.state if not name.endswith(COUNTER)}
    for name in result.kept:
        assert torch.equal(result.state[name], old.state[name])
    for name in result.reset:
        assert torch.equal(result.state[name], new.state[name])
    missing = {name for name in old.state if name not in new.state and not name.endswith(COUNTER)}
    assert {*result.unused} == missing or old.backbone.split(".")[0] != new.backbone.split(".")[0]
    return result


@pytest.mark.parametrize("name", ["lite", "detr"])
def test_to_the_same_model_everything_goes(name: str) -> None:
    old = weights(name=name)
    result = moved(old, weights(name=name, seed=1))
    assert all(torch.equal(result.state[key], tensor) for key, tensor in old.state.items())
    assert result.reset == result.unused == ()
    assert result.lines() == [
        f"{len(result.kept)} tensors kept",
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
def test_rows_of_classes_go_by_name(name: str, names: tuple[str, ...]) -> None:
    old, new = weights(name=name), weights(names, seed=1, name=name)
    result = moved(old, new)
    assert set(result.by_class) == set(class_tensors(name))
    for key in class_tensors(name):
        before, fresh, after = old.state[key], new.state[key], result.state[key]
        assert len(after) == len(names) + (name == "detr")
        for row, wanted in enumerate(names):
            known = wanted.lower() in ANIMALS
            assert torch.equal(after[row], before[ANIMALS.index(wanted.lower())] if known else fresh[row])
        if name == "detr":
            assert torch.equal(after[-1], before[-1]), "the background's row"
    assert result.reset == result.unused == ()


def test_the_lists_are_told() -> None:
    new = ("person", "dog", "sheep", "cat")
    lines = moved(weights(), weights(new, num_queries=4)).lines()
    parts = CLASS_PARTS["lite"]
    assert lines[1:] == [f"class rows: 2 of 4 by name (dog, cat), 2 new{parts}", "queries: 4 of 4 kept, 2 left out"]
    lines = moved(weights(), weights(("sheep",), num_queries=9)).lines()
    assert lines[1:] == [f"class rows: 0 of 1 by name, 1 new{parts}", "queries: 6 of 9 kept, 3 new"]
    many = tuple(f"kind {number}" for number in range(20))
    shown = ", ".join(many[:8])
    assert f"20 of 20 by name ({shown} and 12 more)" in moved(weights(many), weights(many)).lines()[1]


@pytest.mark.parametrize(("name", "key"), [("lite", "queries.content.weight"), ("detr", "queries.position.weight")])
@pytest.mark.parametrize("count", [1, 6, 10])
def test_of_queries_the_first_rows_are_kept(name: str, key: str, count: int) -> None:
    old, new = weights(name=name), weights(seed=1, name=name, num_queries=count)
    result = moved(old, new)
    assert result.by_query == (key,)
    kept = min(count, 6)
    assert torch.equal(result.state[key][:kept], old.state[key][:kept])
    assert torch.equal(result.state[key][kept:], new.state[key][kept:])


def test_fewer_or_more_layers() -> None:
    fewer = moved(weights(), weights(seed=1, decoder_layers=1, encoder_layers=0))
    assert fewer.reset == ()
    assert {key.rsplit(".", 1)[0] for key in fewer.unused if key.startswith("heads.label")} == {"heads.label.1"}
    assert fewer.lines()[-1].startswith("not used: encoder.layers (")
    more = moved(weights(), weights(seed=1, decoder_layers=3))
    assert {".".join(key.split(".")[:3]) for key in more.reset if key.startswith("decoder")} >= {"decoder.layers.2"}
    assert "heads.label.2 (2 tensors)" in more.lines()[-1]
    assert more.unused == ()


def test_another_width_leaves_nothing_of_the_transformer() -> None:
    assert moved(weights(), weights()).has_transformer
    wide = moved(weights(), weights(dim=64))
    assert not wide.has_transformer
    assert any("feedforward" in key for key in wide.kept), "a bias may fit, and does not count"
    assert moved(weights(), weights(feedforward_dim=64)).has_transformer


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k"])
def test_a_network_of_another_kind_gives_nothing(name: str) -> None:
    old, new = weights(backbone="resnet34"), weights(seed=1, backbone=name)
    fitting = [key for key in new.state if key in old.state and key.startswith("backbone.")]
    assert fitting, "some would fit by name and shape"
    result = moved(old, new)
    assert {key for key in result.reset if key.startswith("backbone.")} == {
        key for key in new.state if key.startswith("backbone.") and not key.endswith(COUNTER)
    }
    assert result.unused == ()
    assert "reset: backbone (" in result.lines()[-1]


def test_the_same_network_with_another_tag_is_taken() -> None:
    assert moved(weights(backbone="resnet18"), weights(backbone="resnet18.a1_in1k")).reset == ()


def test_another_stride_needs_more_stages() -> None:
    result = moved(weights(strides=(16,)), weights(seed=1, strides=(16, 32)))
    stages = {key.split(".")[2] for key in result.reset if key.startswith("backbone.")}
    assert stages == {"layer4"}
    assert "backbone.network.layer4 (" in result.lines()[-1]
    assert "encoder.neck (" in result.lines()[-1]


@pytest.mark.parametrize("is_frozen", [False, True])
def test_frozen_and_trained_batch_norm_take_from_each_other(is_frozen: bool) -> None:
    old, new = weights(pretrained=is_frozen), weights(seed=1, pretrained=not is_frozen)
    result = moved(old, new)
    assert result.reset == result.unused == ()


def test_between_the_two_models_the_layers_in_common_are_kept() -> None:
    result = moved(weights(name="lite"), weights(seed=1, name="detr"))
    assert result.has_transformer
    assert result.by_class == result.by_query == ()
    assert {"heads.label.weight", "queries.position.weight"} <= set(result.reset)
    assert {"heads.label.0.weight", "queries.denoising_embed.weight"} <= set(result.unused)
    assert not any(line.startswith(("class rows", "queries")) for line in result.lines())


def test_a_class_layer_that_does_not_go_with_its_names_is_made_anew() -> None:
    old = weights(name="detr")
    odd = Weights(old.state, (*ANIMALS, "sheep"), old.backbone)  # four names for three classes and background
    result = moved(odd, weights(seed=1, name="detr"))
    assert set(result.reset) == set(class_tensors("detr"))


def test_half_precision_becomes_that_of_the_model() -> None:
    old = weights()
    halves: dict[str, Tensor] = {
        key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in old.state.items()
    }
    result = transfer(Weights(halves, old.class_names, old.backbone), weights(seed=1))
    assert {tensor.dtype for tensor in result.state.values() if tensor.is_floating_point()} == {torch.float32}


def test_the_inputs_stay_as_they_are() -> None:
    old, new = weights(), weights(("dog", "cow"), seed=1, num_queries=9)
    before = {key: tensor.clone() for key, tensor in (old.state | new.state).items()}
    result = transfer(old, new)
    for key in result.by_class + result.by_query:
        result.state[key].zero_()
    assert all(torch.equal(before[key], tensor) for key, tensor in (old.state | new.state).items())


@pytest.mark.parametrize(
    ("old", "new", "rows"),
    [
        ([], ["a"], {}),
        (["a"], [], {}),
        (["a", "b"], ["b", "a"], {0: 1, 1: 0}),
        (["Cat", "cat"], ["cat", "CAT"], {0: 1, 1: 0}),  # an exact name first, the other for what is left
        (["cat"], ["Cat", "cat"], {1: 0}),  # one row is not given twice
        (["cat", "cat"], ["cat", "cat"], {0: 0, 1: 1}),
        (["STRASSE"], ["straße"], {0: 0}),
    ],
)
def test_names(old: list[str], new: list[str], rows: dict[int, int]) -> None:
    assert match_names(old, new) == rows


def test_modules_that_are_meant_as_a_whole_are_named_once() -> None:
    names = [f"a.{layer}.{part}.{kind}" for layer in (0, 1, 2) for part in ("x", "y") for kind in ("weight", "bias")]
    assert summarise(names, names) == "a (12 tensors)"
    assert summarise(names[:4], names) == "a.0 (4 tensors)"
    assert summarise(names[:8], names) == "a.0-1 (8 tensors)"
    assert summarise(names[:4] + names[8:], names) == "a.0,2 (8 tensors)"
    assert summarise([name for name in names if ".x." in name], names) == "a.0-2.x (6 tensors)"
    assert summarise(["a.0.x.weight"], names) == "a.0.x.weight"
    assert summarise(["a.0.x.weight", "a.1.x.weight"], names) == "a.0-1.x.weight (2 tensors)"
    assert summarise(["b.c.weight"], [*names, "b.c.weight"]) == "b (1 tensor)"
    assert summarise(["b.c.weight"], [*names, "b.c.weight", f"b.c.{COUNTER}"]) == "b (1 tensor)"
    assert summarise(
        ["b.0.c.1.weight", "b.0.c.2.weight", "a.0.x.bias"], [*names, "b.0.c.1.weight", "b.0.c.2.weight"]
    ) == ("b (2 tensors), a.0.x.bias")
