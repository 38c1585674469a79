"""The comparison itself: it reads every number, sees what is wrong, and says it as a table."""

import math
import sys

import pytest
import torch
from benchmarks.parity import Differences, compare, gradient_differences, parity_table
from benchmarks.parity_models import Sizes, copy_weights, make_parity_models
from torch import nn

from detr_lite.structures import DetrLiteError

SMALL = Sizes("resnet18", dim=64, heads=4, layers=2, feedforward_dim=96, queries=12, classes=5)


def test_all_parts_are_compared():
    differences = Differences()
    compare(SMALL, 0, differences)
    assert list(differences.largest) == [
        "decoder layer 1", "decoder layer 2", "backbone", "projection and queries", "encoder layer 1",
        "encoder layer 2", "heads and their norm",
    ]  # fmt: skip
    for part, of_part in differences.largest.items():
        assert list(of_part) == (list(parity.COLUMNS) if part.startswith("decoder") else ["gradients"])
        assert all(value < 1e-4 for value in of_part.values())
    assert differences.other_pairs == 0
    assert differences.pairs > 0


def test_a_wrong_number_is_seen(monkeypatch):
    def make_unlike_twins(*given, **named):
        theirs, ours = make_parity_models(*given, **named)
        with torch.no_grad():
            ours.decoder.layers[1].feedforward[0].bias[0] += 1
        return theirs, ours

    monkeypatch.setattr(parity, "make_parity_models", make_unlike_twins)
    differences = Differences()
    compare(SMALL, 0, differences)
    assert differences.largest["decoder layer 1"]["logits"] < 1e-4
    assert differences.largest["decoder layer 2"]["logits"] > 1e-3
    assert differences.largest["backbone"]["gradients"] > 1e-3


def test_what_is_not_a_number_is_the_largest_difference():
    differences = Differences()
    for value in (1.0, math.nan, 2.0):
        differences.add("encoder", "gradients", value)
    assert math.isnan(differences.largest["encoder"]["gradients"])


def test_weights_are_paired_to_the_last_one():
    theirs, ours = make_parity_models(SMALL, seed=0)
    ours.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"without their match: \['extra.weight', 'extra.bias'\]"):
        copy_weights(theirs, ours)
    theirs, ours = make_parity_models(SMALL, seed=0)
    ours.heads.label = nn.Linear(64, 7)
    with pytest.raises(ValueError, match=r"weight: \(6, 64\) is not \(7, 64\)"):
        copy_weights(theirs, ours)
    ours.heads.label = nn.Linear(64, 6, bias=False)
    with pytest.raises(ValueError, match=r"\{'bias'\} are in one model only"):
        copy_weights(theirs, ours)


def test_gradients_that_never_came_are_not_equal():
    with pytest.raises(ValueError, match=r"backbone.network.conv1.weight has no gradient"):
        gradient_differences(*make_parity_models(SMALL, seed=0))


def test_twins_leave_the_dice_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    make_parity_models(SMALL, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_table_of_the_tool(run_tool, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "Sizes", lambda body, dilation: SMALL)
    done = run_tool(
        "benchmark", "oracle", "--bodies", "resnet18,resnet50-dc5", "--seeds", 1, "--output", tmp_path / "t"
    )
    assert done.code == 0, done.err
    assert (tmp_path / "t").read_text() == done.out
    assert "| `resnet18`, 1 seed | logits | boxes | ce | l1 | giou | gradients |" in done.out
    assert "| `resnet50-dc5`, 1 seed |" in done.out
    assert "Matched otherwise: 0 of " in done.out
    assert done.out.count("| decoder layer 2 |") == 2
    rows = [line.split("|")[1].strip() for line in done.out.splitlines()[2:9]]
    assert rows == [
        "backbone", "projection and queries", "encoder layer 1", "encoder layer 2",
        "decoder layer 1", "decoder layer 2", "heads and their norm",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["oracle", "--seeds", "0"], "--seeds is 0; it must be at least 1"),
        (["oracle", "--bodies", "vit_tiny_patch16_224"], "'vit_tiny_patch16_224' is no body"),
        (["oracle", "--bodies", "resnet17"], "resnet17"),
        (["speed"], "invalid choice: 'speed'"),
        ([], "KIND"),
    ],
)
def test_what_the_tool_refuses(refusal, words, part):
    assert part in refusal("benchmark", *words)


def test_without_transformers_the_tool_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DetrLiteError, match=r"transformers is not installed.*pip install"):
        parity_table(["resnet18"], seeds=1)
