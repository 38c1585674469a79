"""Tables of where time goes: that they have all rows and add up; how long things take is no test's business."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import step


def test_the_parts_of_a_step_add_up(run_tool: Callable[..., Any], tiny_file: Path) -> None:
    ended = run_tool("benchmark", "step", "--config", tiny_file, "--steps", 2)
    assert ended.code == 0, ended.err
    rows = dict(re.findall(r"^\| ([a-z ]+) \| ([\d.]+) \|", ended.out, flags=re.MULTILINE))
    parts = ["forward", "matching and losses", "backward", "clipping and optimiser"]
    assert list(rows) == ["loading", *parts, "the step without loading", "an image in evaluation"]
    total = float(rows["the step without loading"])
    assert abs(sum(float(rows[part]) for part in parts) - total) <= 3  # milliseconds are rounded


def test_torchs_attention_and_ours_are_both_timed(monkeypatch) -> None:
    monkeypatch.setattr(step, "SHAPES", ((1, 2, 3, 4, 8),))
    table = step.attention_table(repeats=3)
    rows = table.splitlines()[2:]
    assert [row.split("|")[1:3] for row in rows] == [
        [" float32 ", " 1, 2, 3, 4, 8 "],
        [" bfloat16 ", " 1, 2, 3, 4, 8 "],
    ]
    assert all(float(cell) > 0 for row in rows for cell in row.split("|")[3:6])


def test_a_precision_that_is_not_timed_is_refused(refusal: Callable[..., str], tiny_file: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.yaml"
    half.write_text(tiny_file.read_text().replace("32-true", "16-mixed"))
    assert "trainer.precision is 16-mixed" in refusal("benchmark", "step", "--config", half)


def test_no_steps_are_refused(refusal: Callable[..., str], tiny_file: Path) -> None:
    assert "--steps is 0" in refusal("benchmark", "step", "--config", tiny_file, "--steps", 0)
