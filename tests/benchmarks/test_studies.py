"""The comparisons from request to table, with runs that need no training."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks.ablate import CHANGES, ablate, apply_change
from benchmarks.converge import converge
from benchmarks.curves import Curve, plot_curves, spread_apart
from benchmarks.runs import RunError
from benchmarks.study import Request, Study, markdown
from detr_lite.data.reading import read_split
from detr_lite.structures import DetrLiteError
from tests.helpers.fake_runs import FakeLauncher, make_result

PRECISIONS = {"rtdetr_v2": {1e-3: 0.31, 5e-4: 0.36, 2.8e-3: 0.3}, "detr": {5e-4: 0.1}}


@pytest.fixture
def request_for(tiny_file, tmp_path):
    def make(**changes) -> Request:
        options = {
            "config": str(tiny_file),
            "root": None,
            "minutes": 4.0,
            "epochs": None,
            "seeds": 1,
            "output": tmp_path / "out",
            "list_only": False,
        }
        return Request(**{**options, **changes})

    return make


def precision_of(run) -> float:
    if run.baseline is None:
        return 0.4 + 0.1 * run.config.seed
    return PRECISIONS[run.baseline][run.config.optim.lr]


def test_the_table_of_convergence(request_for, capsys, tmp_path):
    launcher = FakeLauncher(precision_of)
    converge(request_for(), ["rtdetr_v2", "detr"], [1e-3, 5e-4], launch=launcher)
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in capsys.readouterr().out
    lines = table.splitlines()
    assert lines[:5] == [
        "| model | parameters | optimizer, learning rate | steps | AP at half time | AP | AP50 | AP75 | AP small |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| **lite (ours)** | **1.5 M** | **muon, 0.0015** | **400** "
        "| **0.200** | **0.400** | **0.800** | **0.200** | **-** |",
        "| RT-DETRv2 | 2.5 M | adamw, 0.0005 | 400 | 0.180 | 0.360 | 0.720 | 0.180 | - |",
        "| DETR | 2.5 M | adamw, 0.0005 | 400 | 0.050 | 0.100 | 0.200 | 0.050 | - |",
    ]
    assert "Learning rates with lower AP: RT-DETRv2 with 0.001: AP 0.310." in table
    assert "64 pixels, batch size 4, 6 queries; 4 minutes of training each" in table
    assert Image.open(tmp_path / "out" / "curves.png").width > 1000


def test_all_models_share_the_settings(request_for):
    launcher = FakeLauncher(precision_of)
    converge(request_for(), ["rtdetr_v2", "detr"], [1e-3, 5e-4], [2.8e-3], launch=launcher)
    lite, *others = [run.config for run in launcher.launched]
    assert [run.baseline for run in launcher.launched] == [None, "rtdetr_v2", "rtdetr_v2", "rtdetr_v2", "detr"]
    assert [(config.optim.optimizer, config.optim.lr) for config in others] == [
        ("adamw", 1e-3),
        ("adamw", 5e-4),
        ("muon", 2.8e-3),
        ("adamw", 5e-4),
    ]
    assert (lite.trainer.max_minutes, lite.trainer.max_epochs, lite.trainer.num_evaluations) == (4.0, None, 10)
    assert not lite.model.pretrained
    assert lite.optim.backbone_lr_factor == 1.0
    for config in others:
        assert (config.data, config.model, config.trainer) == (lite.data, lite.model, lite.trainer)
        assert config.optim.lr_hold == lite.optim.lr_hold


@pytest.mark.slow
def test_equal_steps_have_runs_and_columns_of_their_own(request_for, tmp_path, tiny_data, capsys):
    """8 images in batches of 4: an epoch has 2 steps. The best rate may differ from length to length."""
    assert len(read_split(tiny_data, "train").images) == 8
    precisions = {None: (0.5, 0.2, 0.4), 2.8e-3: (0.3, 0.1, 0.6), 1.4e-3: (0.35, 0.3, 0.2), 1e-3: (0.1, 0.05, 0.15)}

    def precision(run) -> float:
        length = [None, 1, 3].index(run.config.trainer.max_epochs)
        return precisions[None if run.baseline is None else run.config.optim.lr][length]

    launcher = FakeLauncher(precision)
    arguments = (request_for(), ["d_fine"], [1e-3], [2.8e-3, 1.4e-3])
    converge(*arguments, steps=[5, 1, 2], launch=launcher)
    assert [run.length for run in launcher.launched] == ["4 min"] * 4 + ["1 epochs"] * 4 + ["3 epochs"] * 4
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.splitlines()[:5] == [
        "| model | parameters | optimizer, learning rate | steps | AP at half time | AP | AP50 | AP75 | AP small "
        "| AP, 2 steps | AP, 6 steps |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| **lite (ours)** | **1.5 M** | **muon, 0.0015** | **400** "
        "| **0.250** | **0.500** | **1.000** | **0.250** | **-** | **0.200** | **0.400** |",
        "| D-FINE | 2.5 M | adamw, 0.001 | 400 | 0.050 | 0.100 | 0.200 | 0.050 | - | 0.050 | 0.150 |",
        "| D-FINE, Muon | 2.5 M | muon, 0.0014 | 400 | 0.175 | 0.350 | 0.700 | 0.175 | - | 0.300 | 0.600 |",
    ]
    assert "from runs of their own, of 1, 3 epochs" in table
    assert "Learning rates with lower AP: D-FINE, Muon with 0.0028: AP 0.300." in table
    assert "Learning rates with lower AP, 2 steps: D-FINE, Muon with 0.0028: AP 0.100." in table
    assert "Learning rates with lower AP, 6 steps: D-FINE, Muon with 0.0014: AP 0.200." in table
    assert Image.open(tmp_path / "out" / "curves_steps.png").width > 1000

    converge(*arguments, steps=[6], launch=launcher)
    assert len(launcher.launched) == 12  # finished runs are kept, whatever other lengths there are
    assert "| **0.400** |\n" in (tmp_path / "out" / "table.md").read_text()


def test_a_length_that_has_failed_is_in_its_cell(request_for, tmp_path):
    def fail(run):
        if run.config.trainer.max_epochs:
            raise RunError("exit code 2")
        return 0.4

    with pytest.raises(DetrLiteError, match="1 of the runs failed: lite, seed 0"):
        converge(request_for(), [], [1e-3], steps=[3], launch=FakeLauncher(fail))
    row = (tmp_path / "out" / "table.md").read_text().splitlines()[2]
    assert row.endswith("| **0.400** | **0.800** | **0.200** | **-** | **failed** |")


def test_seeds_share_a_row_with_mean_and_range(request_for, tmp_path):
    converge(request_for(seeds=2), [], [1e-3], launch=FakeLauncher(precision_of))
    table = (tmp_path / "out" / "table.md").read_text()
    assert "**0.450 (0.400 .. 0.500)**" in table
    assert "2 seeds: mean (min .. max)" in table


def test_a_failed_model_is_in_the_table(request_for, tmp_path):
    def fail(run):
        if run.baseline:
            raise RunError("exit code 2")
        return 0.4

    with pytest.raises(DetrLiteError, match=r"1 of the runs failed: detr at 0.001, seed 0; .*same command again"):
        converge(request_for(), ["detr"], [1e-3], launch=FakeLauncher(fail))
    assert "| DETR | failed | failed |" in (tmp_path / "out" / "table.md").read_text()


def test_list_trains_nothing(request_for, capsys, tmp_path):
    launcher = FakeLauncher()
    converge(request_for(list_only=True), ["d_fine"], [1e-3, 5e-4], [2.8e-3], launch=launcher)
    assert launcher.launched == []
    assert not (tmp_path / "out").exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-5:-1] == [
        "missing: lite, seed 0, 4 min",
        "missing: d_fine at 0.001, seed 0, 4 min",
        "missing: d_fine at 0.0005, seed 0, 4 min",
        "missing: d_fine, muon at 0.0028, seed 0, 4 min",
    ]
    assert lines[-1].startswith("4 of 4 runs are missing; estimated total time: about 2")


@pytest.mark.slow
def test_the_table_of_changes(request_for, tmp_path, capsys):
    changes = {
        "AdamW": ["--optim.optimizer", "adamw"],
        "the default once more": ["--loss.l1", "5"],
        "fewer | queries": ["--model.num_queries", "5"],
    }
    launcher = FakeLauncher(lambda run: 0.3 + 0.02 * run.config.seed if run.row == "default" else 0.2)
    ablate(request_for(minutes=None, epochs=3, seeds=2), None, launcher, changes)
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.splitlines()[:5] == [
        "| change | AP | AP50 | steps |",
        "| --- | --- | --- | --- |",
        "| **default** | **0.360 (0.350 .. 0.370)** | **0.720 (0.700 .. 0.740)** | **400 (400 .. 400)** |",
        "| AdamW | 0.250 (0.250 .. 0.250) | 0.500 (0.500 .. 0.500) | 400 (400 .. 400) |",
        "| fewer / queries | 0.250 (0.250 .. 0.250) | 0.500 (0.500 .. 0.500) | 400 (400 .. 400) |",
    ]
    assert "; 3 epochs each" in table
    assert [(run.row, run.config.seed) for run in launcher.launched[:3]] == [
        ("default", 0),
        ("default", 1),
        ("AdamW", 0),
    ]
    assert {run.config.trainer.max_epochs for run in launcher.launched} == {3}

    ablate(request_for(minutes=None, epochs=3), ["the default once more", "AdamW"], launcher, changes)
    assert "skipped 'the default once more': it equals the default" in capsys.readouterr().out
    assert len(launcher.launched) == 6


@pytest.fixture
def coco_small_study(request_for, tiny_data):
    return Study(request_for(config="coco_small.yaml", root=str(tiny_data)), launch=FakeLauncher())


@pytest.mark.slow
def test_every_change_is_a_valid_setting_and_keeps_the_sizes(coco_small_study):
    default = coco_small_study.config
    configs = {row: apply_change(coco_small_study, arguments) for row, arguments in CHANGES.items()}
    for row, config in configs.items():
        assert "," not in row  # `--rows` is comma-separated
        assert config.model.num_queries == default.model.num_queries
        assert config.trainer == default.trainer
        assert replace(config.data, augmentation=default.data.augmentation) == default.data
    assert default.optim.optimizer == "muon"
    assert configs["AdamW instead of Muon"].optim.lr != default.optim.lr
    assert configs["no augmentation"].data.augmentation == "none"


def test_a_row_with_an_outdated_setting_is_named(request_for):
    with pytest.raises(DetrLiteError, match=r"row 'old': --loss.old is not a setting"):
        ablate(request_for(), None, FakeLauncher(), {"old": ["--loss.old", "1"]})


def test_a_change_may_set_sizes(coco_small_study):
    config = apply_change(coco_small_study, ["--data.image_size", "32", "--model.num_queries", "7"])
    assert (config.data.image_size, config.data.batch_size, config.model.num_queries) == (32, 4, 7)


def test_names_of_curves_do_not_overlap():
    wanted = np.array([0.5, 0.1, 0.5, 0.52, 0.9, 0.11])
    positions = spread_apart(wanted, 0.05, 0.0, 1.0)
    assert np.diff(np.sort(positions)).min() >= 0.05 - 1e-9
    assert list(np.argsort(positions, kind="stable")) == list(np.argsort(wanted, kind="stable"))
    assert positions[4] == 0.9
    assert positions[[0, 2, 3]].mean() == pytest.approx(wanted[[0, 2, 3]].mean())


def test_names_of_curves_stay_within_the_axes():
    positions = spread_apart(np.array([0.0, 0.01, 0.9, 0.95, 0.98, 1.0]), 0.1, 0.05, 0.95)
    np.testing.assert_allclose(positions, [0.05, 0.15, 0.65, 0.75, 0.85, 0.95])


def test_curves_of_runs_with_different_lengths(tmp_path):
    curves = [
        Curve("lite", (make_result(0.1, 0.3, 0.4), make_result(0.2, 0.3)), is_highlighted=True),
        Curve("$x^2$ never found anything", (make_result(-1, -1, -1),)),
        Curve("one point", (make_result(0.2),)),
    ]
    plot_curves(curves, "AP of _this_ $set", "steps", tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").height > 500


def test_a_table_has_as_many_cells_as_columns():
    assert markdown(["a", "b"], [["1|2", "3"]]) == "| a | b |\n| --- | --- |\n| 1/2 | 3 |"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["converge", "--against", "yolo"], "'yolo' is not one of rtdetr_v2, d_fine"),
        (["converge", "--rates", "fast"], "--rates: fast is not a list of numbers"),
        (["converge", "--muon_rates", "1e-3,fast"], "--muon_rates: 1e-3,fast is not a list of numbers"),
        (["converge", "--steps", "300", "0"], "--steps is 0; it must be at least 1"),
        (["converge", "--rates", ","], "give one learning rate or more"),
        (["converge", "--minutes", "0"], "--minutes is 0.0; it must be more than 0"),
        (["converge", "--seeds", "0"], "--seeds is 0"),
        (["converge", "--config", "nothing.yaml"], "nothing.yaml: no such file"),
        (["converge", "--epochs", "3"], "--epochs 3"),
        (["ablate", "--minutes", "1", "--epochs", "3"], "give --minutes or --epochs, not both"),
        (["ablate", "--rows", "no such row"], "--rows: there is no 'no such row'; there are: AdamW instead of Muon"),
        (["ablate", "--root", "nowhere"], "nowhere: no such data folder"),
    ],
)
def test_wrong_arguments_are_refused(refusal, arguments, message):
    assert message in refusal("benchmark", *arguments)


def test_missing_transformers_is_noticed_before_the_first_run(refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "transformers is not installed" in refusal("benchmark", "converge", "--against", "detr")


def test_the_command_lists_the_runs(run_tool, tiny_file, tmp_path):
    arguments = ["--config", tiny_file, "--list", "--output", tmp_path / "out"]
    ended = run_tool("benchmark", "converge", "--against", "detr", *arguments)
    assert ended.code == 0, ended.err
    assert "2 of 2 runs are missing; estimated total time: about 2" in ended.out
    ended = run_tool("benchmark", "ablate", "--rows", "EMA 0.998, no denoising", *arguments)
    assert ended.code == 0, ended.err
    assert "missing: EMA 0.998, seed 0, 3 min" in ended.out
    assert "3 of 3 runs are missing" in ended.out
