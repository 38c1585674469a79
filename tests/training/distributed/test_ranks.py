"""Two processes compute the gradients and metrics of a single one."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from detr_lite.build import build_criterion, build_model, build_postprocess
from detr_lite.config import Config, ModelConfig
from detr_lite.data.reading import read_split
from detr_lite.detector import Detector
from detr_lite.evaluation.coco_map import METRICS, CocoEvaluation
from detr_lite.structures import Batch, DetectionArrays, Target
from detr_lite.training.datamodule import make_loader
from detr_lite.training.distributed.control import ControlGroup
from detr_lite.training.module import DetectionModule
from tests.helpers import ranks

pytestmark = pytest.mark.slow


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ranks.Ranks]]:
    """Start processes that do not outlive the test."""
    started: list[ranks.Ranks] = []

    def begin(function: Callable[..., object], *words: Any) -> ranks.Ranks:
        started.append(ranks.start(tmp_path / f"ranks {len(started)}", 2, function, *words))
        return started[-1]

    yield begin
    for each in started:
        each.kill()


class ModelWithLoss(nn.Module):
    """Model and criterion: from a batch to its loss."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = build_model(config.model, classes=3)
        self.criterion = build_criterion(config, classes=3)
        self.train()
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()  # its statistics would depend on how images are split among processes

    def forward(self, batch: Batch) -> Tensor:
        return self.criterion(self.model(batch), batch.targets).total


def drawn_batch(counts: Sequence[int], first: int) -> Batch:
    """Images of one size with the given numbers of objects."""
    images, targets = [], []
    for image, count in enumerate(counts, start=first):
        random = torch.Generator().manual_seed(image)
        boxes_cxcywh = torch.rand(count, 4, generator=random) * 0.3 + 0.3
        labels = torch.randint(0, 3, (count,), generator=random)
        images.append(torch.randn(3, 64, 64, generator=random))
        targets.append(Target(boxes_cxcywh, labels, image, (64, 64)))
    return Batch.from_images(images, targets)


def gradients_of(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    model(batch).backward()
    return {
        name.removeprefix("module."): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def save_gradients(config: Config, counts: Sequence[Sequence[int]], folder: Path) -> None:
    ranks.join()
    rank = dist.get_rank()
    batch = drawn_batch(counts[rank], first=sum(map(len, counts[:rank])))
    torch.save(gradients_of(DistributedDataParallel(ModelWithLoss(config)), batch), folder / f"{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lite", "detr"])
@pytest.mark.parametrize("counts", [[(5, 0), (1, 1)], [(0, 0), (2, 4)]], ids=["unequal", "one rank without objects"])
def test_gradients_of_two_ranks_are_those_of_one_with_all_images(
    start: Callable[..., ranks.Ranks], tiny_config: Config, tmp_path: Path, name: str, counts: list[tuple[int, ...]]
) -> None:
    # Without denoising: its number of queries depends on the fullest image of a rank.
    config = replace(tiny_config, model=replace(tiny_config.model, name=name, denoising_queries=0))
    assert start(save_gradients, config, counts, tmp_path).codes() == [0, 0]
    model = ModelWithLoss(config)
    expected = gradients_of(model, drawn_batch([count for part in counts for count in part], first=0))
    assert expected.keys() == {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    largest = max(value.abs().max().item() for value in expected.values())
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            # Some gradients are zero but for rounding, such as that of a key's bias.
            scale = max(1e-5 * value.abs().max().item(), 1e-7 * largest)
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=scale, msg=key)


def measure(checkpoint: Path, root: Path, rank: int, world_size: int) -> dict[str, Tensor]:
    """COCO metrics as validation logs them."""
    detector, val = Detector.from_checkpoint(checkpoint, device="cpu"), read_split(root, "val")
    module = DetectionModule(
        detector.model, MagicMock(), detector.postprocess, val, MagicMock(), max_grad_norm=0.0
    ).eval()
    logged: dict[str, Tensor] = {}
    module.log_dict = lambda numbers, **_: logged.update(numbers)  # type: ignore[method-assign]
    loader = make_loader(val, detector.transform, detector.description.resize, 2, 0, rank=rank, world_size=world_size)
    with torch.inference_mode():
        for index, batch in enumerate(loader):
            module.validation_step(batch, index)
        module.on_validation_epoch_end()
    return logged


def save_measures(checkpoint: Path, root: Path, folder: Path) -> None:
    ranks.join()
    torch.save(measure(checkpoint, root, dist.get_rank(), 2), folder / f"{dist.get_rank()}.pt")


@pytest.mark.stress
def test_an_odd_number_of_images_is_evaluated_as_by_one_rank(
    start: Callable[..., ranks.Ranks], finished_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """Five images are three batches for one rank, and four for two."""
    best = finished_run / "checkpoints/best.ckpt"
    assert start(save_measures, best, tiny_data, tmp_path).codes() == [0, 0]
    expected = measure(best, tiny_data, 0, 1)
    assert expected.keys() == set(METRICS)
    assert 0.1 < expected["AP"] < 0.99
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert {name: value.item() for name, value in found.items()} == pytest.approx(
            {name: value.item() for name, value in expected.items()}, rel=0, abs=0, nan_ok=True
        )


class SlowEvaluation(DetectionModule):
    """Its evaluation on rank 0 takes longer than the time-out of the processes' group."""

    def _evaluate(self, parts: list[DetectionArrays]) -> CocoEvaluation:
        time.sleep(1.5 * TIMEOUT)
        return super()._evaluate(parts)


TIMEOUT = 6.0
"""Seconds; enough for two processes to meet on a busy machine."""


def evaluate_slowly(root: Path, is_waiting: bool) -> None:
    dist.init_process_group("gloo", timeout=timedelta(seconds=TIMEOUT))
    control_group = ControlGroup()
    control_group.init_control_group(MagicMock(world_size=2))
    postprocess = build_postprocess(ModelConfig(num_queries=5), ["a"])
    val = read_split(root, "val")
    module = SlowEvaluation(
        nn.Linear(1, 1), MagicMock(), postprocess, val, MagicMock(), 0.0, None, control_group if is_waiting else None
    )
    module.log_dict = lambda numbers, **_: print(sorted(numbers)[0], float(numbers["AP"]))  # type: ignore[method-assign]
    module.on_validation_epoch_end()


@pytest.mark.parametrize("is_waiting", [True, False])
@pytest.mark.stress
def test_an_evaluation_may_take_longer_than_the_time_out_of_the_group(
    start: Callable[..., ranks.Ranks], tiny_data: Path, is_waiting: bool
) -> None:
    """Without the control group, in which the other rank waits, that one fails."""
    processes = start(evaluate_slowly, tiny_data, is_waiting)
    codes = processes.codes()
    if is_waiting:
        assert codes == [0, 0], processes.err
        assert processes.out == ["AP 0.0\n"] * 2
    else:
        assert codes[1] != 0
        assert "Timed out" in processes.err[1]


def exchange(place: Path) -> None:
    ranks.join()
    rank, control_group, trainer = dist.get_rank(), ControlGroup(), MagicMock(world_size=2)
    control_group.init_control_group(trainer)
    found = control_group.all_reduce_max(trainer, rank, -rank, 2**40 + rank)
    (place / f"{rank}.txt").write_text(f"{dist.get_backend(control_group._group)} {found}")


def test_control_messages_are_reduced_over_gloo(start: Callable[..., ranks.Ranks], tmp_path: Path) -> None:
    assert start(exchange, tmp_path).codes() == [0, 0]
    for rank in range(2):
        assert (tmp_path / f"{rank}.txt").read_text() == f"gloo {(1.0, 0.0, 2.0**40 + 1)}"
