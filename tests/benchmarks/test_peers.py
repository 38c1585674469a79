"""Detectors beside each other: that they do equal work, and the tables. How long it takes is not tested."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from benchmarks import peers
from benchmarks.hf_reference import random_batch
from benchmarks.parity_models import Sizes
from benchmarks.peer_models import detr_pair, lite_and_peers
from benchmarks.peers import detr_races, fastest, lite_race, peers_table
from detr_lite.config import Config, ModelConfig

SMALL = Sizes("resnet18", dim=32, heads=4, layers=2, feedforward_dim=48, queries=12, classes=5, dropout=0.0)
LITE = replace(
    Config(),
    model=ModelConfig(
        backbone="resnet10t",
        pretrained=False,
        strides=(8, 16, 32),
        dim=32,
        heads=2,
        encoder_layers=1,
        decoder_layers=2,
        feedforward_dim=48,
        num_queries=10,
        denoising_queries=4,
    ),
)


@pytest.mark.parametrize("freeze_batch_norm", [False, True])
@pytest.mark.slow
def test_detr_and_its_peer_compute_the_same(freeze_batch_norm: bool) -> None:
    ours, theirs = detr_pair(SMALL, freeze_batch_norm)
    theirs.model.config.auxiliary_loss = False  # with which each layer gets the normalized state of the one before
    batch = random_batch([(64, 96)] * 2, [3, 2], SMALL.classes, torch.Generator().manual_seed(0))
    with torch.no_grad():
        new, old = ours.predict(batch), theirs.predict(batch)
    torch.testing.assert_close(new.logits[-1], old.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(new.boxes_cxcywh[-1], old.pred_boxes, rtol=1e-3, atol=1e-3)
    losses, trained = [], []
    for contender in (ours, theirs):
        contender.model.train()
        losses.append(contender.loss(batch).detach())
        trained.append(sum(each.numel() for each in contender.model.parameters() if each.requires_grad))
    assert losses[0].isfinite()
    assert losses[1].isfinite()
    assert trained[0] == trained[1]


@pytest.mark.slow
def test_lite_and_its_peers_have_equal_sizes() -> None:
    contenders = lite_and_peers(LITE, classes=3)
    assert [each.name for each in contenders] == ["lite", "RT-DETRv2 of transformers", "D-FINE of transformers"]
    batch = random_batch([(64, 64)], [3], 3, torch.Generator().manual_seed(0))
    for contender in contenders:
        with torch.no_grad():
            output = contender.model.eval() and contender.predict(batch)
        assert output.logits.shape[-2:] == (10, 3)
    for contender in contenders[1:]:
        config = contender.model.config
        assert (config.decoder_layers, config.d_model, config.num_queries) == (2, 32, 10)


@pytest.mark.stress
def test_a_row_for_each_work_and_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "INFERENCE_BATCHES", (1, 3))
    races = [*detr_races(SMALL, (64, 96)), lite_race(LITE, 3, 64)]
    table = peers_table(races, threads=[1, 2], repeats=1, with_profile=True)
    assert len(re.findall(r"^\| training step \| 2 \| [12] \|", table, flags=re.MULTILINE)) == 6
    assert len(re.findall(r"^\| inference \| [13] \| [12] \|", table, flags=re.MULTILINE)) == 12
    for title in ("detr, trained batch norm", "detr, frozen batch norm", "lite"):
        assert f"| {title}, " in table
        assert f"{title}, training step, batch 2:" in table
    assert table.count("| convolutions |") == 9


def test_models_take_turns_and_the_fastest_call_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = iter([0, 5, 10, 17, 20, 22, 30, 39])
    for name in ("process_time", "perf_counter"):
        monkeypatch.setattr(peers.time, name, lambda: float(next(clock)))
    runs: dict[str, Callable[[], object]] = {name: lambda name=name: calls.append(name) for name in "ab"}
    assert fastest(runs, repeats=2) == {"a": 2.0, "b": 7.0}
    assert calls == ["a", "b"] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "dino"], "--models: 'dino' is not detr or lite"),
        (["--backbone", "vit_tiny_patch16_224"], "is not a ResNet"),
        (["--side", "100"], "a multiple of 32"),
        (["--repeats", "0"], "--repeats must be at least 1"),
        (["--threads", "0"], "--threads must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused(refusal: Callable[..., str], arguments: list[str], message: str) -> None:
    assert message in refusal("benchmark", "peers", *arguments)
