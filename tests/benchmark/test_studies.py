"""The comparisons from request to table, with runs that take no time."""

import sys

import numpy as np
import pytest
from benchmarks.ablate import CHANGES, ablate, changed
from benchmarks.converge import converge
from benchmarks.curves import Curve, plot_curves, spread_apart
from benchmarks.runs import RunError
from benchmarks.study import Request, Study, markdown
from fake_runs import FakeStart, outcome
from PIL import Image

from detr_lite.structures import DetrLiteError

PRECISIONS = {"rtdetr_v2": {1e-3: 0.31, 5e-4: 0.36}, "detr": {5e-4: 0.1}}


@pytest.fixture
def request_for(tiny_file, tmp_path):
    def make(**changes) -> Request:
        given = {
            "config": str(tiny_file),
            "root": None,
            "minutes": 4.0,
            "epochs": None,
            "seeds": 1,
            "output": tmp_path / "out",
            "only_list": False,
        }
        return Request(**{**given, **changes})

    return make


def of_run(run) -> float:
    if run.peer is None:
        return 0.4 + 0.1 * run.config.seed
    return PRECISIONS[run.peer][run.config.optim.lr]


def test_the_table_of_convergence(request_for, capsys, tmp_path):
    start = FakeStart(of_run)
    converge(request_for(), ["rtdetr_v2", "detr"], [1e-3, 5e-4], "adamw", start)
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in capsys.readouterr().out
    lines = table.splitlines()
    assert lines[:5] == [
        "| model | parameters | optimiser, rate | steps | AP at half | AP | AP50 | AP75 | AP small |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| **lite (ours)** | **1.5 M** | **muon, 0.0015** | **400** "
        "| **0.200** | **0.400** | **0.800** | **0.200** | **-** |",
        "| RT-DETRv2 | 2.5 M | adamw, 0.0005 | 400 | 0.180 | 0.360 | 0.720 | 0.180 | - |",
        "| DETR | 2.5 M | adamw, 0.0005 | 400 | 0.050 | 0.100 | 0.200 | 0.050 | - |",
    ]
    assert "The better of the rates: RT-DETRv2 at 0.001 had AP 0.310." in table
    assert "64 pixels, batches of 4, 6 queries; 4 minutes of training each" in table
    assert Image.open(tmp_path / "out" / "curves.png").width > 1000


def test_models_differ_in_nothing_but_themselves(request_for, tmp_path):
    start = FakeStart(of_run)
    converge(request_for(), ["rtdetr_v2", "detr"], [1e-3, 5e-4], "muon", start)
    ours, *others = [run.config for run in start.made]
    assert [run.peer for run in start.made] == [None, "rtdetr_v2", "rtdetr_v2", "detr"]
    assert (ours.trainer.max_minutes, ours.trainer.max_epochs, ours.trainer.num_evaluations) == (4.0, None, 10)
    assert not ours.model.pretrained
    assert ours.optim.backbone_lr_factor == 1.0
    for config in others:
        assert config.optim.optimizer == "muon"
        assert (config.data, config.model, config.trainer) == (ours.data, ours.model, ours.trainer)
        assert config.optim.lr_hold == ours.optim.lr_hold


def test_several_seeds_are_one_row_with_their_range(request_for, tmp_path):
    converge(request_for(seeds=2), [], [1e-3], "adamw", FakeStart(of_run))
    table = (tmp_path / "out" / "table.md").read_text()
    assert "**0.450 (0.400 .. 0.500)**" in table
    assert "2 seeds: mean (least .. most)" in table


def test_a_model_that_fails_is_in_the_table(request_for, tmp_path):
    def fail(run):
        if run.peer:
            raise RunError("exit code 2")
        return 0.4

    with pytest.raises(DetrLiteError, match=r"1 of the runs failed: detr at 0.001, seed 0; .*tries again"):
        converge(request_for(), ["detr"], [1e-3], "adamw", FakeStart(fail))
    assert "| DETR | failed | failed |" in (tmp_path / "out" / "table.md").read_text()


def test_a_list_makes_nothing(request_for, capsys, tmp_path):
    start = FakeStart()
    converge(request_for(only_list=True), ["d_fine"], [1e-3, 5e-4], "adamw", start)
    assert start.made == []
    assert not (tmp_path / "out").exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:-1] == [
        "to make    lite, seed 0, 4 min",
        "to make    d_fine at 0.001, seed 0, 4 min",
        "to make    d_fine at 0.0005, seed 0, 4 min",
    ]
    assert lines[-1].startswith("3 of 3 runs are to be made; time in all: about 0:1")


def test_the_table_of_changes(request_for, tmp_path, capsys):
    changes = {
        "AdamW": ["--optim.optimizer", "adamw"],
        "the default once more": ["--loss.l1", "5"],
        "fewer | queries": ["--model.num_queries", "5"],
    }
    start = FakeStart(lambda run: 0.3 + 0.02 * run.config.seed if run.row == "default" else 0.2)
    ablate(request_for(minutes=None, epochs=3, seeds=2), None, start, changes)
    table = (tmp_path / "out" / "table.md").read_text()
    assert table.splitlines()[:5] == [
        "| change | AP | AP50 | steps |",
        "| --- | --- | --- | --- |",
        "| **default** | **0.360 (0.350 .. 0.370)** | **0.720 (0.700 .. 0.740)** | **400 (400 .. 400)** |",
        "| AdamW | 0.250 (0.250 .. 0.250) | 0.500 (0.500 .. 0.500) | 400 (400 .. 400) |",
        "| fewer / queries | 0.250 (0.250 .. 0.250) | 0.500 (0.500 .. 0.500) | 400 (400 .. 400) |",
    ]
    assert "; 3 epochs each" in table
    assert [(run.row, run.config.seed) for run in start.made[:3]] == [("default", 0), ("default", 1), ("AdamW", 0)]
    assert {run.config.trainer.max_epochs for run in start.made} == {3}

    ablate(request_for(minutes=None, epochs=3), ["the default once more", "AdamW"], start, changes)
    assert "note       the default once more: that is the default" in capsys.readouterr().out
    assert len(start.made) == 6


def test_every_change_can_be_made(request_for, tiny_data):
    """Rows follow the settings as these change."""
    study = Study(request_for(config="coco_small.yaml", root=str(tiny_data)), start=FakeStart())
    configs = {row: changed(study, words) for row, words in CHANGES.items()}
    for row, config in configs.items():
        assert "," not in row  # which is what --rows are told apart by
        assert config.model.num_queries == study.config.model.num_queries
        assert config.trainer == study.config.trainer
        if row != "no augmentation":
            assert config.data == study.config.data
    assert study.config.optim.optimizer == "muon"
    assert configs["AdamW instead of Muon"].optim.lr != study.config.optim.lr


def test_a_row_that_the_settings_have_left_behind_is_named(request_for):
    with pytest.raises(DetrLiteError, match=r"row 'old': --loss.old is not a setting"):
        ablate(request_for(), None, FakeStart(), {"old": ["--loss.old", "1"]})


def test_a_change_of_sizes_is_one(request_for, tiny_data):
    study = Study(request_for(config="coco_small.yaml", root=str(tiny_data)), start=FakeStart())
    config = changed(study, ["--data.image_size", "32", "--model.num_queries", "7"])
    assert (config.data.image_size, config.data.batch_size, config.model.num_queries) == (32, 4, 7)


def test_names_of_curves_never_touch():
    wanted = np.array([0.5, 0.1, 0.5, 0.52, 0.9, 0.11])
    places = spread_apart(wanted, 0.05, 0.0, 1.0)
    assert np.diff(np.sort(places)).min() >= 0.05 - 1e-9
    assert list(np.argsort(places, kind="stable")) == list(np.argsort(wanted, kind="stable"))
    assert places[4] == 0.9
    assert places[[0, 2, 3]].mean() == pytest.approx(wanted[[0, 2, 3]].mean())


def test_names_of_curves_stay_beside_the_picture():
    places = spread_apart(np.array([0.0, 0.01, 0.9, 0.95, 0.98, 1.0]), 0.1, 0.05, 0.95)
    np.testing.assert_allclose(places, [0.05, 0.15, 0.65, 0.75, 0.85, 0.95])


def test_curves_of_runs_of_other_lengths(tmp_path):
    curves = [
        Curve("lite", (outcome(0.1, 0.3, 0.4), outcome(0.2, 0.3)), is_ours=True),
        Curve("$x^2$ never found anything", (outcome(-1, -1, -1),)),
        Curve("one point", (outcome(0.2),)),
    ]
    plot_curves(curves, "AP of _this_ $set", "steps", tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").height > 500


def test_a_table_has_as_many_cells_as_columns():
    assert markdown(["a", "b"], [["1|2", "3"]]) == "| a | b |\n| --- | --- |\n| 1/2 | 3 |"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["converge", "--against", "yolo"], "'yolo' is none of rtdetr_v2, d_fine"),
        (["converge", "--rates", "fast"], "--rates: fast is no list of numbers"),
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
def test_what_the_tool_refuses(refusal, words, part):
    assert part in refusal("benchmark", *words)


def test_without_transformers_nothing_is_begun(refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "transformers is not installed" in refusal("benchmark", "converge", "--against", "detr")


def test_the_tool_lists(run_tool, tiny_file, tmp_path):
    words = ["--config", tiny_file, "--list", "--output", tmp_path / "out"]
    done = run_tool("benchmark", "converge", "--against", "detr", *words)
    assert done.code == 0, done.err
    assert "2 of 2 runs are to be made; time in all: about 0:2" in done.out
    done = run_tool("benchmark", "ablate", "--rows", "EMA 0.998, no denoising", *words)
    assert done.code == 0, done.err
    assert "to make    EMA 0.998, seed 0, 3 min" in done.out
    assert "3 of 3 runs" in done.out
