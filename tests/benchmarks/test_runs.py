"""Finished runs are kept, changed runs are repeated, interrupted runs leave no result."""

import json
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch

from benchmarks import runs as module
from benchmarks.result import collect_result, mean_and_range, read_result
from benchmarks.runs import Run, RunError, Runs, launch_process, with_seeds
from detr_lite.config import config_from_dict, config_to_dict
from detr_lite.data.reading import read_split
from tests.helpers.fake_runs import FakeLauncher, make_result, write_log


@pytest.fixture
def config(tiny_config):
    return replace(tiny_config, trainer=replace(tiny_config.trainer, max_epochs=None, max_minutes=1.0))


@pytest.fixture
def runs(tiny_data, tmp_path):
    return Runs(tmp_path, read_split(tiny_data, "train"), read_split(tiny_data, "val"), FakeLauncher())


def test_a_second_call_launches_nothing(runs, config, capsys):
    both = [Run("lite", config), Run("detr at 0.001", config, "detr")]
    assert runs.complete(both) == []
    assert runs.launch.launched == both
    assert "[2/2] detr at 0.001, seed 0, 1 min; estimated time remaining: about" in capsys.readouterr().out
    assert runs.complete(both) == []
    assert runs.launch.launched == both
    assert capsys.readouterr().out == ""
    assert [result.last.metrics["AP"] for result in runs.results(both)] == [0.4, 0.4]
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
        ("baseline", None),
    ],
)
def test_a_changed_run_is_repeated(runs, config, section, change):
    first = Run("lite", config)
    runs.complete([first])
    if section == "baseline":
        second = replace(first, baseline="detr")
    elif section is None:
        second = replace(first, config=replace(config, **change))
    else:
        second = replace(first, config=replace(config, **{section: replace(getattr(config, section), **change)}))
    runs.complete([first, second])
    assert runs.launch.launched == [first, second]


def test_a_renamed_row_or_a_moved_dataset_is_not_repeated(runs, config, tiny_data, tmp_path):
    run = Run("lite", config)
    runs.complete([run])
    moved = shutil.copytree(tiny_data, tmp_path / "moved" / tiny_data.name)
    elsewhere = Runs(tmp_path, read_split(moved, "train"), read_split(moved, "val"), runs.launch)
    same = replace(run, row="renamed", config=replace(config, data=replace(config.data, root=str(moved))))
    assert elsewhere.complete([same]) == []
    assert runs.launch.launched == [run]


def test_a_changed_dataset_is_repeated(runs, config, edit_annotations):
    run = Run("lite", config)
    runs.complete([run])
    other = edit_annotations("val", lambda content: content["annotations"].pop())
    Runs(runs.output, read_split(other, "train"), read_split(other, "val"), runs.launch).complete([run])
    assert runs.launch.launched == [run, run]


def test_a_setting_that_older_results_lack_has_its_default_there(runs, config):
    run = Run("lite", config)
    runs.complete([run])
    stored = json.loads(runs.result_file(run).read_text())
    assert "denoising_noise" not in stored["settings"]["model"]
    noisier = replace(run, config=replace(config, model=replace(config.model, denoising_noise=0.7)))
    assert runs.missing([run, noisier]) == [noisier]


STUDIES = sorted((module.REPOSITORY / "docs/studies").glob("*/results/*.json"))


def test_the_results_of_the_studies_are_found(runs, monkeypatch):
    """Their names are made of their settings: a table can be made again from them."""
    assert len(STUDIES) > 50
    for path in STUDIES:
        stored = json.loads(path.read_text())
        runs.data = stored["data"]
        monkeypatch.setattr(module, "machine", lambda config, stored=stored: stored["machine"])
        run = Run(stored["row"], config_from_dict(stored["settings"]), stored["baseline"])
        assert runs.result_file(run).name == path.name


def test_settings_survive_json(config):
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config


def test_ctrl_c_loses_only_the_current_run(runs, config, capsys):
    first, second, third = with_seeds(Run("lite", config), 3)

    def stop(run):
        if run == second:
            raise KeyboardInterrupt
        return 0.4

    runs.launch.precision = stop
    with pytest.raises(KeyboardInterrupt):
        runs.complete([first, second, third])
    assert runs.launch.launched == [first]
    assert "interrupted; the same command repeats this run" in capsys.readouterr().out
    runs.launch.precision = lambda run: 0.5
    assert runs.complete([first, second, third]) == []
    assert runs.launch.launched == [first, second, third]


def test_a_failed_run_is_reported_and_repeated(runs, config, capsys):
    first, second = with_seeds(Run("lite", config), 2)

    def fail(run):
        if run == first:
            raise RunError("exit code 2: the model's numbers have overflowed")
        return 0.4

    runs.launch.precision = fail
    assert runs.complete([first, second]) == ["lite, seed 0"]
    assert "failed: exit code 2: the model's numbers" in capsys.readouterr().out
    assert runs.missing([first, second]) == [first]


def test_a_run_without_an_evaluation_has_failed(runs, config, capsys):
    runs.launch = lambda run, folder, classes: write_log(folder, []) or 5
    assert runs.complete([Run("lite", config)]) == ["lite, seed 0"]
    assert "metrics.csv has no evaluation" in capsys.readouterr().out


def test_a_damaged_result_is_repeated(runs, config):
    run = Run("lite", config)
    runs.complete([run])
    for text in ("", "{}", '{"curve": []}', '{"curve": [{"odd": 1}]}'):
        runs.result_file(run).write_text(text)
        assert runs.missing([run]) == [run]


def test_results_of_other_versions_are_reported(runs, config, capsys, monkeypatch):
    run = Run("lite", config)
    runs.complete([run])
    monkeypatch.setattr(module, "code_versions", lambda: {"detr_lite": "another"})
    capsys.readouterr()
    runs.complete([run])
    assert capsys.readouterr().out.startswith("1 of 1 results are from other versions of the code; ")


def test_the_plan_lists_finished_and_missing_runs(runs, config, capsys):
    both = [Run("lite", config), Run("detr at 0.001", config, "detr")]
    runs.complete(both[:1])
    stored = read_result(runs.result_file(both[0]))
    replace(stored, seconds=90.0).write(runs.result_file(both[0]), {})  # 30 seconds more than its minute of training
    capsys.readouterr()
    runs.print_plan(both)
    assert capsys.readouterr().out.splitlines() == [
        "finished: lite, seed 0, 1 min",
        "missing: detr at 0.001, seed 0, 1 min",
        "1 of 2 runs are missing; estimated total time: about 1:30",
    ]
    assert len(runs.launch.launched) == 1
    epochs = replace(config, trainer=replace(config.trainer, max_epochs=2, max_minutes=None))
    shutil.rmtree(runs.output / "results")
    runs.print_plan([Run("lite", epochs)])
    assert "2 epochs\n1 of 1 runs are missing; estimated total time: unknown" in capsys.readouterr().out


def test_a_result_is_collected_and_read_back(tmp_path):
    write_log(tmp_path, [0.1, 0.2, 0.3, 0.4, 0.5], minutes=10, best=0.6)
    result = collect_result(tmp_path, 1000, 700.0, {"torch": "2"})
    assert [point.minutes for point in result.curve] == [2, 4, 6, 8, 10]
    assert result.last.step == 500
    assert result.at_half_time().metrics["AP"] == 0.2
    assert result.best == {"AP": 0.6, "AP50": 1.2, "AP75": 0.3, "APs": -1}
    result.write(tmp_path / "result.json", {"row": "lite"})
    assert read_result(tmp_path / "result.json") == result
    assert read_result(tmp_path / "missing.json") is None


def test_a_cell_has_the_mean_and_the_range():
    def cell(*finals: float) -> str:
        results = [make_result(final) for final in finals]
        return mean_and_range(results, lambda result: result.last.metrics["AP"], lambda value: f"{value:.2f}")

    assert cell(0.5) == "0.50"
    assert cell(0.5, 0.7, 0.6) == "0.60 (0.50 .. 0.70)"
    assert cell(-1) == "-"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Let a shell script take the place of the Python interpreter."""

    def write(text: str) -> None:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setattr(module.sys, "executable", str(path))

    return write


def test_detr_lite_is_trained_with_the_tool(program, config, tmp_path):
    program('echo "$@"')
    parameters = launch_process(Run("row", config), tmp_path, classes=3)
    assert (tmp_path / "log.txt").read_text().split() == [
        *(str(module.REPOSITORY / "tools" / "train.py"), "--overwrite"),
        *("--config", str(tmp_path / "settings.yaml"), "--run_dir", str(tmp_path)),
        *("--trainer.precision", "32-true", "--trainer.threads", str(torch.get_num_threads())),
    ]
    assert parameters > 10_000


def test_a_baseline_is_trained_with_its_own_module(program, config, tmp_path):
    program('echo "$@"; echo \'{"parameters": 77}\' > "$(dirname "$0")/model.json"')
    assert launch_process(Run("row", config, "detr"), tmp_path, classes=3) == 77
    assert (tmp_path / "log.txt").read_text().split() == [
        *("-m", "benchmarks.baseline_run", "detr"),
        *("--config", str(tmp_path / "settings.yaml"), "--run_dir", str(tmp_path)),
        *("--trainer.precision", "32-true", "--trainer.threads", str(torch.get_num_threads())),
    ]


def test_processes_import_this_repository_from_any_folder(program, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    program(f"{module.sys.executable} -c 'import benchmarks; print(benchmarks.__path__[0])'; echo $PYTHONPATH")
    launch_process(Run("row", config), tmp_path, classes=3)
    imported, path = (tmp_path / "log.txt").read_text().splitlines()
    assert imported == str(module.REPOSITORY / "benchmarks")
    assert path == f"{module.REPOSITORY}:elsewhere"


def test_a_failed_process_is_quoted(program, config, tmp_path):
    program("echo fine so far; echo error: it went wrong >&2; exit 2")
    with pytest.raises(RunError, match=r"exit code 2: it went wrong \(.*log.txt\)"):
        launch_process(Run("row", config), tmp_path, classes=3)


@pytest.mark.parametrize(("name", "ending"), [("INT", KeyboardInterrupt), ("TERM", SystemExit)])
@pytest.mark.slow
def test_the_process_is_terminated_on_an_interruption(program, config, tmp_path, name, ending):
    # The process itself interrupts this one, and then would run for days.
    program(f"echo $$ > {tmp_path}/pid; sleep 0.5; kill -{name} $PPID; exec sleep 1000000")
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(ending):
            launch_process(Run("row", config), tmp_path, classes=3)
        assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]
    finally:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_version_is_a_digest_of_the_package_alone(monkeypatch, tmp_path):
    for folder in ("detr_lite", "benchmarks"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)

    def digest_with(path: str, text: str) -> str:
        (tmp_path / path).write_text(text)
        return module.code_versions()["detr_lite"]

    first = digest_with("detr_lite/model.py", "a = 1")
    assert digest_with("benchmarks/table.py", "b = 1") == first
    assert digest_with("detr_lite/model.py", "a = 2") != first
