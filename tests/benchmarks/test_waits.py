"""Where the host waits for a GPU, found without one: what the detector finds, and that training waits for one copy."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.host_syncs import HostSyncs
from benchmarks.waits import evaluation_syncs, training_syncs
from detr_lite.config import Config
from detr_lite.data.reading import read_split

WAITS = {
    "a number": lambda x: x[0, 0].item(),
    "a float": lambda x: float(x.sum()),
    "a list": lambda x: x.sum(0).tolist(),
    "a condition": lambda x: 1 if x.any() else 2,
    "a mask": lambda x: x[x > 0],
    "an index of a list": lambda x: x[:, [1, 0]],
    "an index of the host": lambda x: x[torch.tensor([0, 1])],
    "nonzero": lambda x: x.nonzero(),
    "unique": lambda x: x.unique(),
    "a tensor of a list": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "new_tensor": lambda x: x.new_tensor([1.0, 2.0]),
    "a copy to the host": lambda x: x.cpu(),
    "a copy from the host": lambda x: torch.zeros(3).to(x.device),
    "an asynchronous copy of memory that is not pinned": lambda x: torch.zeros(3).to(x.device, non_blocking=True),
    "a number at an index": lambda x: x.index_put_(
        (torch.zeros(1, dtype=torch.long, device=x.device),), torch.ones(())
    ),
    "a number in one element": lambda x: x[0].__setitem__(0, 1.0),
}


@pytest.mark.parametrize("kind", WAITS)
def test_each_kind_of_wait_is_found(kind: str):
    with HostSyncs() as syncs:
        x = torch.zeros(3, 4, device="cuda")
        with contextlib.suppress(RuntimeError):  # a shape that only the device knows
            WAITS[kind](x)
    assert syncs.places.total() >= 1


@pytest.mark.parametrize(
    "use",
    [
        lambda x: torch.zeros(3).pin_memory().to(x.device, non_blocking=True),
        lambda x: torch.where(x > 0, 1.0, torch.nan),
        lambda x: x.masked_fill(x > 0, 1.0),
        lambda x: x.topk(2).indices,
        lambda x: x[:, :2].fill_(1),
        lambda x: torch.empty(3, 4, pin_memory=True).copy_(x, non_blocking=True),
    ],
)
def test_what_does_not_wait_is_not_found(use):
    with HostSyncs() as syncs:
        use(torch.zeros(3, 4, device="cuda"))
    assert not syncs.places


@pytest.fixture(params=["lite", "detr", pytest.param("lite fdr", marks=pytest.mark.slow)])
def model_config(request: pytest.FixtureRequest, tiny_config: Config) -> Config:
    if request.param == "detr":
        return replace(
            tiny_config,
            model=replace(tiny_config.model, name="detr"),
            optim=replace(tiny_config.optim, optimizer="adamw"),
        )
    fdr = {"box_head": "fdr", "contrastive_denoising": True, "strides": (8, 16)} if request.param == "lite fdr" else {}
    optimizer = "muon" if fdr else "adamw"
    return replace(
        tiny_config, model=replace(tiny_config.model, **fdr), optim=replace(tiny_config.optim, optimizer=optimizer)
    )


@pytest.mark.stress
def test_a_training_step_waits_for_the_costs_of_the_matcher_alone(model_config: Config, tiny_data: Path):
    syncs = training_syncs(model_config, read_split(tiny_data, "val"))
    assert syncs.total() == 1, syncs
    assert "loss/matcher.py" in next(iter(syncs)), syncs


@pytest.mark.stress
@pytest.mark.slow
def test_an_evaluated_batch_waits_for_its_detections_alone(model_config: Config, tiny_data: Path):
    syncs = evaluation_syncs(model_config, read_split(tiny_data, "val"))
    assert syncs.total() == 1, syncs
    assert "evaluation/postprocess.py" in next(iter(syncs)), syncs
