"""Runs are made once each: what is finished is kept, what has changed is made anew, what is stopped is lost."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace

import pytest
from benchmarks import runs as module
from benchmarks.result import mean_and_range, read_result, result_of
from benchmarks.runs import Run, RunError, Runs, start_process, with_seeds
from fake_runs import FakeStart, outcome, write_log

from detr_lite.config import config_from_dict, config_to_dict
from detr_lite.data.coco import read_split


@pytest.fixture
def config(tiny_config):
    return replace(tiny_config, trainer=replace(tiny_config.trainer, max_epochs=None, max_minutes=1.0))


@pytest.fixture
def runs(tiny_data, tmp_path):
    return Runs(tmp_path, read_split(tiny_data, "train"), read_split(tiny_data, "val"), FakeStart())


def test_a_second_call_runs_nothing(runs, config, capsys):
    both = [Run("lite", config), Run("detr at 0.001", config, "detr")]
    assert runs.make(both) == []
    assert runs.start.made == both
    assert "[2/2] detr at 0.001, seed 0, 1 min; time left in all: about" in capsys.readouterr().out
    assert runs.make(both) == []
    assert runs.start.made == both
    assert capsys.readouterr().out == ""
    assert [made.last.numbers["AP"] for made in runs.outcomes(both)] == [0.4, 0.4]
    assert not list(runs.output.rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("optim", {"lr": 0.123}),
        ("optim", {"optimizer": "adamw"}),
        ("model", {"strides": (8, 16)}),
        ("loss", {"gamma": 1.0}),
        ("trainer", {"max_minutes": 2.0}),
        ("trainer", {"precision": "bf16-mixed"}),
        (None, {"seed": 1}),
        ("peer", None),
    ],
)
def test_what_has_changed_is_made_anew(runs, config, section, change):
    first = Run("lite", config)
    runs.make([first])
    if section == "peer":
        second = replace(first, peer="detr")
    elif section is None:
        second = replace(first, config=replace(config, **change))
    else:
        second = replace(first, config=replace(config, **{section: replace(getattr(config, section), **change)}))
    runs.make([first, second])
    assert runs.start.made == [first, second]


def test_the_same_under_another_name_or_in_another_place_is_not_made_anew(runs, config, tiny_data, tmp_path):
    run = Run("lite", config)
    runs.make([run])
    moved = shutil.copytree(tiny_data, tmp_path / "moved" / tiny_data.name)
    elsewhere = Runs(tmp_path, read_split(moved, "train"), read_split(moved, "val"), runs.start)
    same = replace(run, row="renamed", config=replace(config, data=replace(config.data, root=str(moved))))
    assert elsewhere.make([same]) == []
    assert runs.start.made == [run]


def test_other_data_are_other_runs(runs, config, edit_annotations):
    run = Run("lite", config)
    runs.make([run])
    other = edit_annotations("val", lambda content: content["annotations"].pop())
    Runs(runs.output, read_split(other, "train"), read_split(other, "val"), runs.start).make([run])
    assert runs.start.made == [run, run]


def test_settings_come_through_a_file_unchanged(config):
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config


def test_ctrl_c_loses_only_the_run_under_way(runs, config, capsys):
    first, second, third = with_seeds(Run("lite", config), 3)

    def stop(run):
        if run == second:
            raise KeyboardInterrupt
        return 0.4

    runs.start.precision = stop
    with pytest.raises(KeyboardInterrupt):
        runs.make([first, second, third])
    assert runs.start.made == [first]
    assert "the same command goes on" in capsys.readouterr().out
    runs.start.precision = lambda run: 0.5
    assert runs.make([first, second, third]) == []
    assert runs.start.made == [first, second, third]


def test_a_failed_run_is_said_and_tried_again(runs, config, capsys):
    first, second = with_seeds(Run("lite", config), 2)

    def fail(run):
        if run == first:
            raise RunError("exit code 2: the model's numbers have overflowed")
        return 0.4

    runs.start.precision = fail
    assert runs.make([first, second]) == ["lite, seed 0"]
    assert "failed: exit code 2: the model's numbers" in capsys.readouterr().out
    assert runs.missing([first, second]) == [first]


def test_a_run_without_an_evaluation_has_failed(runs, config, capsys):
    runs.start = lambda run, folder, classes: write_log(folder, []) or 5
    assert runs.make([Run("lite", config)]) == ["lite, seed 0"]
    assert "no evaluation in it" in capsys.readouterr().out


def test_a_damaged_result_is_made_anew(runs, config):
    run = Run("lite", config)
    runs.make([run])
    for text in ("", "{}", '{"curve": []}', '{"curve": [{"odd": 1}]}'):
        runs.result_file(run).write_text(text)
        assert runs.missing([run]) == [run]


def test_results_of_other_code_are_named(runs, config, capsys, monkeypatch):
    run = Run("lite", config)
    runs.make([run])
    monkeypatch.setattr(module, "made_with", lambda: {"detr_lite": "another"})
    capsys.readouterr()
    runs.make([run])
    assert capsys.readouterr().out.startswith("note       results by other code than today's: 1; ")


def test_what_is_to_be_made_is_told(runs, config, capsys):
    both = [Run("lite", config), Run("detr at 0.001", config, "detr")]
    runs.make(both[:1])
    capsys.readouterr()
    runs.tell(both)
    assert capsys.readouterr().out.splitlines() == [
        "kept       lite, seed 0, 1 min",
        "to make    detr at 0.001, seed 0, 1 min",
        "1 of 2 runs are to be made; time in all: about 0:01:00",  # as the one that was made took no longer
    ]
    assert len(runs.start.made) == 1
    epochs = replace(config, trainer=replace(config.trainer, max_epochs=2, max_minutes=None))
    shutil.rmtree(runs.output / "results")
    runs.tell([Run("lite", epochs)])
    assert "2 epochs\n1 of 1 runs are to be made; time in all: known after" in capsys.readouterr().out


def test_an_outcome_is_read_from_a_run_and_from_its_file(tmp_path):
    write_log(tmp_path, [0.1, 0.2, 0.3, 0.4, 0.5], minutes=10, best=0.6)
    made = result_of(tmp_path, 1000, 700.0, {"torch": "2"})
    assert [point.minutes for point in made.curve] == [2, 4, 6, 8, 10]
    assert made.last.step == 500
    assert made.at_half().numbers["AP"] == 0.2
    assert made.best == {"AP": 0.6, "AP50": 1.2, "AP75": 0.3, "APs": -1}
    made.write(tmp_path / "outcome.json", {"row": "lite"})
    assert read_result(tmp_path / "outcome.json") == made
    assert read_result(tmp_path / "missing.json") is None


def test_cells():
    def shown(*finals: float) -> str:
        outcomes = [outcome(final) for final in finals]
        return mean_and_range(outcomes, lambda made: made.last.numbers["AP"], lambda value: f"{value:.2f}")

    assert shown(0.5) == "0.50"
    assert shown(0.5, 0.7, 0.6) == "0.60 (0.50 .. 0.70)"
    assert shown(-1) == "-"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Let runs be made by a shell script."""

    def write(text: str) -> None:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setattr(module.sys, "executable", str(path))

    return write


@pytest.mark.parametrize("peer", [None, "detr"])
def test_a_process_gets_settings_and_a_folder(program, config, tmp_path, peer):
    program('echo "$@"; echo \'{"parameters": 77}\' > "$(dirname "$0")/model.json"')
    parameters = start_process(Run("it", config, peer), tmp_path, classes=3)
    words = (tmp_path / "log.txt").read_text().split()
    common = ["--config", str(tmp_path / "settings.yaml"), "--run_dir", str(tmp_path)]
    if peer is None:
        assert words == [str(module.PROJECT / "tools" / "train.py"), "--overwrite", *common]
        assert parameters > 10_000
    else:
        assert words == ["-m", "benchmarks.baseline_run", "detr", *common]
        assert parameters == 77


def test_a_process_that_fails_is_quoted(program, config, tmp_path):
    program("echo fine so far; echo error: it went wrong >&2; exit 2")
    with pytest.raises(RunError, match=r"exit code 2: it went wrong \(.*log.txt\)"):
        start_process(Run("lite", config), tmp_path, classes=3)


@pytest.mark.parametrize(("number", "ending"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_no_process_outlives_an_interruption(program, config, tmp_path, number, ending):
    program(f"echo $$ > {tmp_path}/pid; exec sleep 60")
    before = {each: signal.getsignal(each) for each in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), number))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    begin = time.monotonic()
    try:
        with pytest.raises(ending):
            start_process(Run("lite", config), tmp_path, classes=3)
    finally:
        for each in (signal.SIGALRM, signal.SIGINT):
            signal.signal(each, before[each])
    assert time.monotonic() - begin < 20
    assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_digest_is_that_of_our_code_wherever_it_lies(monkeypatch, tmp_path):
    project = tmp_path / "benchmark"
    (project / "detr_lite" / "benchmark").mkdir(parents=True)
    monkeypatch.setattr(module, "PROJECT", project)

    def digest_with(path, text):
        (project / "detr_lite" / path).write_text(text)
        return module.made_with()["detr_lite"]

    first = digest_with("model.py", "a = 1")
    assert digest_with("benchmark/table.py", "b = 1") == first
    assert digest_with("model.py", "a = 2") != first
