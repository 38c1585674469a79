"""The precision of a run on a CPU: timed where that can matter, chosen once, and without a trace in the run itself."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detr_lite.build import build_criterion, build_model
from detr_lite.config import Config, Invocation, read_config
from detr_lite.data.reading import read_split
from detr_lite.structures import Batch, Target
from detr_lite.training import precision, run
from detr_lite.training.precision import TrainingPass, faster_precision, keep_precision, settle_precision
from tests.helpers.run_files import assert_same_end


def with_precision(config: Config, value: str) -> Config:
    return replace(config, trainer=replace(config.trainer, precision=value))


@pytest.fixture
def bfloat16_cpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Say whether the CPU has instructions for bfloat16."""

    def make(has: bool) -> None:
        found = {"avx512_bf16": has, "cpu_name": "AMD EPYC"}
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda: found, raising=False)

    return make


@pytest.mark.parametrize(
    ("half", "chosen", "ending"),
    [
        (0.5, "bf16-mixed", "500 ms in bfloat16 and 1,000 ms in float32 on one core"),
        (0.95, "32-true", "on one core, which is too little to gain for what it rounds"),
        (1.3, "32-true", "1,300 ms in bfloat16 and 1,000 ms in float32 on one core"),
    ],
)
def test_bfloat16_has_to_be_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, half: float, chosen: str, ending: str
) -> None:
    """Of several passes the fastest counts."""
    slower = itertools.cycle([1.0, 3.0, 1.7])
    monkeypatch.setattr(
        precision,
        "_pass_seconds",
        lambda training_pass, is_half, clock: (half if is_half else 1.0) * next(slower),
    )
    monkeypatch.setattr(precision, "PASSES", 9)
    result, reason = faster_precision(TrainingPass(nn.Identity(), lambda: torch.ones(())))
    assert result == chosen
    assert reason.endswith(ending)


def test_a_long_pass_is_timed_once_with_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, passes = [], []

    def one(training_pass: Any, is_half: bool, clock: Any) -> float:
        passes.append(is_half)
        return 20.0 if is_half else 30.0

    monkeypatch.setattr(precision, "_pass_seconds", one)
    monkeypatch.setattr(precision, "LONG", -1.0)
    monkeypatch.setattr("torch.set_num_threads", threads.append)
    monkeypatch.setattr("torch.get_num_threads", lambda: 16)
    result, reason = faster_precision(TrainingPass(nn.Identity(), lambda: torch.ones(())))
    assert result == "bf16-mixed"
    assert reason.endswith("20,000 ms in bfloat16 and 30,000 ms in float32 with 16 threads")
    assert passes == [False, True, False, True]
    assert set(threads) == {16}


@pytest.mark.slow
def test_the_passes_are_those_of_training(tiny_config: Config) -> None:
    """Both precisions are computed, losses and gradients are those of a step, and none of the gradients stay."""
    model, seen = build_model(tiny_config.model, 3, for_checkpoint=True).train(), []
    model.backbone.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    gradients = []
    weight = next(parameter for parameter in model.parameters() if parameter.requires_grad)
    weight.register_hook(lambda gradient: gradients.append(bool(gradient.isfinite().all())))
    target = Target(torch.full((1, 4), 0.5), torch.zeros(1, dtype=torch.long), 1, (64, 64))
    batch = Batch.from_images([torch.rand(3, 64, 64)], [target])
    threads = torch.get_num_threads()
    criterion = build_criterion(tiny_config, 3)
    chosen, _ = faster_precision(TrainingPass(model, lambda: criterion(model(batch), [target]).total))
    assert chosen in ("32-true", "bf16-mixed")
    assert seen[:2] == [False, True]
    assert seen.count(True) == seen.count(False) == len(gradients) / 2
    assert all(gradients)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.get_num_threads() == threads


def test_it_is_settled_without_a_trace(
    tiny_config: Config, tiny_data: Path, bfloat16_cpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = (read_split(tiny_data, name) for name in ("train", "val"))
    images: list[int] = []

    def timed(training_pass: TrainingPass) -> tuple[str, str]:
        training_pass.model.register_forward_pre_hook(lambda _, inputs: images.append(len(inputs[0].images)))
        assert training_pass.compute_loss().isfinite()
        return "bf16-mixed", "it was faster"

    monkeypatch.setattr(precision, "faster_precision", timed)
    config, given = with_precision(tiny_config, "auto"), with_precision(tiny_config, "16-mixed")
    bfloat16_cpu(True)
    before = torch.get_rng_state()
    assert settle_precision(config, train, val) == with_precision(config, "bf16-mixed")
    assert torch.equal(torch.get_rng_state(), before)
    assert images == [4]
    assert settle_precision(given, train, val) == given
    bfloat16_cpu(False)
    assert settle_precision(config, train, val) == with_precision(config, "32-true")
    monkeypatch.setattr(precision, "device_type", lambda accelerator: "cuda")
    assert settle_precision(config, train, val) == config
    assert images == [4]


def test_a_resumed_run_keeps_it_unless_another_is_given(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    auto, half, single = (with_precision(tiny_config, value) for value in ("auto", "bf16-mixed", "32-true"))
    assert keep_precision(auto, half) == half
    assert keep_precision(auto, single) == single
    assert keep_precision(single, half) == single
    assert keep_precision(auto, with_precision(tiny_config, "16-mixed")) == auto  # of a GPU
    monkeypatch.setattr(precision, "device_type", lambda accelerator: "cuda")
    assert keep_precision(auto, single) == auto


@pytest.mark.stress
@pytest.mark.usefixtures("no_finish")
def test_a_run_that_chooses_32_bits_is_the_run_that_was_given_them(
    tiny_config: Config,
    tmp_path: Path,
    invocation: Callable[..., Invocation],
    bfloat16_cpu: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit, and what was chosen stays when it is resumed."""
    bfloat16_cpu(True)
    monkeypatch.setattr(precision, "WORTH_IT", 0.0)
    threads = replace(tiny_config, trainer=replace(tiny_config.trainer, threads=1))
    auto = with_precision(threads, "auto")
    run.train(invocation(config=threads, run_dir=tmp_path / "given"))
    run.train(invocation(config=auto, run_dir=tmp_path / "chosen"))
    assert_same_end(tmp_path / "chosen", tmp_path / "given", atol=0.0)
    stored = read_config(["--config", str(tmp_path / "chosen/config.yaml")]).config
    assert stored.trainer.precision == "32-true"

    monkeypatch.setattr(precision, "faster_precision", lambda *_: pytest.fail("the precision is timed again"))
    longer = replace(auto, trainer=replace(auto.trainer, max_epochs=3))
    run.train(invocation(config=longer, run_dir=tmp_path / "chosen", resume="last"))
    stored = read_config(["--config", str(tmp_path / "chosen/config.yaml")]).config
    assert stored.trainer == with_precision(longer, "32-true").trainer
