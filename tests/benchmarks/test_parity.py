"""The parity measurement: it compares every tensor, notices an error in any, and reports it in a table."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import parity
from benchmarks.parity import Differences, compare, gradient_differences, parity_table
from benchmarks.parity_models import Sizes, copy_weights, make_parity_models
from detr_lite.structures import DetrLiteError

SMALL = Sizes("resnet18", dim=64, heads=4, layers=2, feedforward_dim=96, queries=12, classes=5)
DECODER_ROWS = ["decoder layer 1", "decoder layer 2"]
OTHER_ROWS = ["backbone", "projection and queries", "encoder layer 1", "encoder layer 2", "heads and their norm"]


@pytest.mark.slow
def test_every_part_is_compared():
    differences = Differences()
    compare(SMALL, 0, differences)
    assert {part: tuple(columns) for part, columns in differences.largest.items()} == {
        **dict.fromkeys(DECODER_ROWS, parity.COLUMNS),
        **dict.fromkeys(OTHER_ROWS, ("gradients",)),
    }
    assert max(value for columns in differences.largest.values() for value in columns.values()) < 1e-4
    assert differences.different_pairs == 0
    assert differences.pairs > 0


@pytest.mark.slow
def test_a_wrong_weight_is_noticed(monkeypatch):
    def make_different_models(*args, **kwargs):
        reference, model = make_parity_models(*args, **kwargs)
        with torch.no_grad():
            model.decoder.layers[1].feedforward[0].bias[0] += 1
        return reference, model

    monkeypatch.setattr(parity, "make_parity_models", make_different_models)
    differences = Differences()
    compare(SMALL, 0, differences)
    assert differences.largest["decoder layer 1"]["logits"] < 1e-4
    assert differences.largest["decoder layer 2"]["logits"] > 1e-3
    assert differences.largest["backbone"]["gradients"] > 1e-3


def test_nan_counts_as_the_largest_difference():
    differences = Differences()
    for value in (1.0, math.nan, 2.0):
        differences.add("encoder", "gradients", value)
    assert math.isnan(differences.largest["encoder"]["gradients"])


def test_every_tensor_must_have_a_counterpart():
    reference, model = make_parity_models(SMALL, seed=0)
    model.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"tensors without a counterpart: \['extra.weight', 'extra.bias'\]"):
        copy_weights(reference, model)
    del model.extra
    model.heads.label = nn.Linear(64, 7)
    with pytest.raises(ValueError, match=r"weight: \(6, 64\) is not \(7, 64\)"):
        copy_weights(reference, model)
    model.heads.label = nn.Linear(64, 6, bias=False)
    with pytest.raises(ValueError, match=r"\{'bias'\} are in one model only"):
        copy_weights(reference, model)


def test_missing_gradients_do_not_count_as_equal():
    with pytest.raises(ValueError, match=r"backbone.network.conv1.weight has no gradient"):
        gradient_differences(*make_parity_models(SMALL, seed=0))


def test_the_global_random_state_is_unchanged():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    make_parity_models(SMALL, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_the_command_prints_a_table_for_each_backbone(run_tool, tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "Sizes", lambda body, dilation: SMALL)
    ended = run_tool(
        "benchmark", "parity", "--bodies", "resnet18, resnet50-dc5", "--seeds", 1, "--output", tmp_path / "table"
    )
    assert ended.code == 0, ended.err
    assert (tmp_path / "table").read_text() == ended.out
    assert "| `resnet18`, 1 seed | logits | boxes | ce | l1 | giou | gradients |" in ended.out
    assert "| `resnet50-dc5`, 1 seed |" in ended.out
    assert "Matched pairs of query and object that differ: 0 of " in ended.out
    assert ended.out.count("| decoder layer 2 |") == 2
    rows = [line.split("|")[1].strip() for line in ended.out.splitlines()[2:9]]
    assert rows == [*OTHER_ROWS[:-1], *DECODER_ROWS, OTHER_ROWS[-1]]


@pytest.mark.stress
def test_the_command_works_from_any_folder(tmp_path):
    tool = Path(parity.__file__).parents[1] / "tools" / "benchmark.py"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(tool), "parity", "--help"]
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "DetrForObjectDetection" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["parity", "--seeds", "0"], "--seeds is 0; it must be at least 1"),
        (["parity", "--bodies", "vit_tiny_patch16_224"], "'vit_tiny_patch16_224' is not a ResNet"),
        (["parity", "--bodies", "resnet17"], "resnet17"),
        (["oracle"], "invalid choice: 'oracle'"),
        ([], "COMMAND"),
    ],
)
def test_wrong_arguments_are_refused(refusal, arguments, message):
    assert message in refusal("benchmark", *arguments)


def test_missing_transformers_is_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DetrLiteError, match=r"transformers is not installed.*pip install"):
        parity_table(["resnet18"], seeds=1)
