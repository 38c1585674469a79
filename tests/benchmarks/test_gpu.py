"""What is measured on a GPU, at toy sizes on the processor; and the report, whatever becomes of its parts."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu, gpu_speed
from benchmarks.gpu import SECONDS, GpuSettings, gpu_report, report_tables
from benchmarks.gpu_data import last_evaluation
from benchmarks.gpu_part import Part, find_part
from detr_lite.structures import DetrLiteError

TOY = GpuSettings(device="cpu", toy=True, learning_minutes=0.01)


def measured(name: str) -> list[dict]:
    rows: list[dict] = []
    find_part(name)(Part(TOY, 600.0, rows.append))
    json.dumps(rows)
    return rows


def test_without_a_card_that_is_said() -> None:
    (row,) = measured("device")
    assert row["card"] == "none was used"


@pytest.mark.stress
def test_steps_of_each_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes minutes where shapes are checked, as in tests: the whole run below compiles."""
    compiled = []
    monkeypatch.setattr(gpu_speed, "compile_model", lambda model, toy: compiled.append(toy) or model)
    rows = measured("step")
    assert [(row["precision"], row["compiled"]) for row in rows] == [
        (precision, compiled) for compiled in (False, True) for precision in ("bf16-mixed", "16-mixed", "32-true")
    ]
    assert all(row["ms"] > 0 for row in rows)
    assert compiled == [True, True, True]


@pytest.mark.stress
def test_the_whole_run(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    gpu_report(GpuSettings(device="cpu", toy=True, learning_minutes=0.01), 60.0, file)
    parts = json.loads(file.read_text())["parts"]
    assert list(parts) == list(SECONDS)
    assert all(part["state"] == "done" for part in parts.values())
    assert not [row for part in parts.values() for row in part["rows"] if "error" in row]


@pytest.mark.stress
@pytest.mark.parametrize(
    ("part", "count"),
    [("optimizer", 4), ("latency", 6), pytest.param("memory", 2, marks=pytest.mark.stress), ("loading", 2)],
)
def test_parts_that_give_numbers(part: str, count: int) -> None:
    rows = measured(part)
    assert len(rows) == count
    assert not any("error" in row for row in rows)
    if part == "latency":
        assert sum("skipped" in row for row in rows) == 3
    if part == "memory":
        assert all(row["measured / worked out"] == pytest.approx(1, abs=0.05) for row in rows)


@pytest.mark.stress
def test_kernels_that_run() -> None:
    rows = measured("attention")
    assert any("scaled_dot_product" in row.get("runs", "") for row in rows)
    assert not any("error" in row for row in rows)


@pytest.mark.stress
def test_learning_beside_the_baseline() -> None:
    drawing, *rows = measured("learning")
    assert drawing["seconds"] > 0
    assert [row["model"] for row in rows] == ["lite", "RT-DETRv2"]
    assert all(0 <= row["AP"] <= 1 for row in rows)


def test_the_last_evaluation_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss,AP\n5,1.0,\n10,,0.25\n12,0.5,\n")
    assert last_evaluation(tmp_path / "metrics.csv") == (10, 0.25)


def use_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """Runs this in place of a part, with the part's name as its argument."""
    script = tmp_path / "script.py"
    script.write_text(f"import json, os, subprocess, sys, time\npart = sys.argv[1]\n{text}")
    popen = gpu.subprocess.Popen

    def start(command, **options):
        return popen([sys.executable, str(script), command[3]], **options)

    monkeypatch.setattr(gpu.subprocess, "Popen", start)


def test_failed_parts_are_recorded_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'print(json.dumps({"ms": 1.5}))\nprint("{cut")\nif part == "step": raise ValueError("no kernel")\n'
    use_script(monkeypatch, tmp_path, text)
    file = tmp_path / "out" / "gpu.json"
    table = gpu_report(TOY, 8.0, file, ("device", "step", "optimizer"))
    parts = json.loads(file.read_text())["parts"]
    assert {name: part["state"] for name, part in parts.items()} == {
        "device": "done", "step": "failed", "optimizer": "done",
    }  # fmt: skip
    assert all(part["rows"] == [{"ms": 1.5}] for part in parts.values())
    assert parts["step"]["reason"] == "ValueError: no kernel"
    assert "failed: ValueError: no kernel" in table
    assert table.count("| 1.5 |") == 3


@pytest.mark.slow
def test_a_part_that_takes_too_long_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended with the processes that it started."""
    child = tmp_path / "child"
    text = (
        f'subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5); open({str(child)!r}, \'w\')"])\n'
        'print(json.dumps({"ms": 2}), flush=True)\ntime.sleep(60)\n'
    )
    use_script(monkeypatch, tmp_path, text)
    monkeypatch.setattr(gpu, "SECONDS", {"step": 90.0, "latency": 0.1})
    monkeypatch.setattr(gpu, "LEAST_SECONDS", 0.5)
    file = tmp_path / "gpu.json"
    table = gpu_report(TOY, 1.5 / 60, file, ("step", "latency"))
    parts = json.loads(file.read_text())["parts"]
    assert (parts["step"]["state"], parts["latency"]["state"]) == ("cut off", "skipped")
    assert parts["step"]["rows"] in ([{"ms": 2}], [])
    assert "skipped: 0 s were left" in table
    assert not child.exists()


def test_what_finished_is_written_before_the_next_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "gpu.json"

    def run(part, settings, limit):
        if part == "step":
            assert list(json.loads(file.read_text())["parts"]) == ["device"]
            raise KeyboardInterrupt
        return {"state": "done", "reason": "", "rows": [{"card": "x"}]}

    monkeypatch.setattr(gpu, "_run_part", run)
    with pytest.raises(KeyboardInterrupt):
        gpu_report(TOY, 8.0, file)
    assert list(json.loads(file.read_text())["parts"]) == ["device"]


def test_the_shares_fit_the_time_and_what_is_left_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(SECONDS.values()) <= 60 * gpu.MINUTES
    limits = []
    monkeypatch.setattr(gpu, "_run_part", lambda part, settings, limit: limits.append(limit) or {"state": "done"})
    monkeypatch.setattr(gpu, "report_tables", lambda report: "")
    gpu_report(TOY, 4.0, tmp_path / "gpu.json")
    left = 240.0
    for limit, part in zip(limits, SECONDS, strict=True):
        later = [SECONDS[name] / 2 for name in list(SECONDS)[list(SECONDS).index(part) + 1 :]]
        assert limit == pytest.approx(left - sum(later), abs=5)


def test_tables_of_rows_with_different_columns() -> None:
    parts = {"step": {"state": "done", "reason": "", "rows": [{"a": 1.23456}, {"b": "x\ny"}]}}
    assert report_tables({"parts": parts}).splitlines()[2:] == [
        "| a | b |",
        "| --- | --- |",
        "| 1.235 |  |",
        "|  | x y |",
    ]


@pytest.mark.parametrize(("minutes", "parts", "reason"), [(0, ("step",), "--minutes"), (8, ("stpe",), "--parts: stpe")])
def test_wrong_arguments_are_refused(tmp_path: Path, minutes: float, parts: tuple[str, ...], reason: str) -> None:
    with pytest.raises(DetrLiteError, match=reason):
        gpu_report(TOY, minutes, tmp_path / "gpu.json", parts)
