"""Tables of times: their rows, and that the parts add up. How long a step takes is not tested."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import step


@pytest.mark.slow
def test_the_parts_of_a_step_add_up(run_tool: Callable[..., Any], tiny_file: Path) -> None:
    ended = run_tool("benchmark", "step", "--config", tiny_file, "--steps", 2)
    assert ended.code == 0, ended.err
    rows = dict(re.findall(r"^\| ([a-z ]+) \| ([\d.]+) \|", ended.out, flags=re.MULTILINE))
    parts = ["forward", "matching and losses", "backward", "clipping and optimizer"]
    assert list(rows) == ["loading", *parts, "step without loading", "evaluation of one image"]
    total = float(rows["step without loading"])
    assert abs(sum(float(rows[part]) for part in parts) - total) <= 3  # each is rounded to a millisecond


def test_both_implementations_of_attention_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, times = [], iter([3.0, 2.0, 9.0, 6.0])

    def milliseconds(function: Callable[[], Any], repeats: int) -> float:
        outputs.append(function().float())
        return next(times)

    monkeypatch.setattr(step, "SHAPES", ((1, 2, 3, 4, 8),))
    monkeypatch.setattr(step, "_milliseconds", milliseconds)
    assert step.attention_table().splitlines()[2:] == [
        "| float32 | 1, 2, 3, 4, 8 | 3.0 | 2.0 | 1.5 |",
        "| bfloat16 | 1, 2, 3, 4, 8 | 9.0 | 6.0 | 1.5 |",
    ]
    fused, explicit, *_ = outputs
    assert (fused - explicit).abs().max() < 1e-5


def test_the_median_call_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    values, clock = torch.ones(2, requires_grad=True), iter(range(0, 100_000))
    monkeypatch.setattr(step.time, "perf_counter", lambda: next(clock) / 1e3)
    assert step._milliseconds(lambda: values * 2, repeats=5) == pytest.approx(1.0)
    assert values.grad.tolist() == [2.0 * (step.WARMUP + 5)] * 2


def test_float16_is_refused(refusal: Callable[..., str], tiny_file: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.yaml"
    half.write_text(tiny_file.read_text().replace("32-true", "16-mixed"))
    assert "trainer.precision is 16-mixed" in refusal("benchmark", "step", "--config", half)


def test_zero_steps_are_refused(refusal: Callable[..., str], tiny_file: Path) -> None:
    assert "--steps is 0" in refusal("benchmark", "step", "--config", tiny_file, "--steps", 0)
