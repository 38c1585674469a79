"""The commands of the example, at toy length: train, stop and resume, predict, evaluate."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from detr_lite.structures import DetrLiteError
from examples.lanes import evaluate, predict, train
from examples.lanes.tusimple import make_roads

QUICK = ["--backbone", "test_resnet", "--batch_size", "4", "--threads", "1", "--num_evaluations", "1"]
Call = Callable[..., None]


@pytest.fixture(scope="module")
def roads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("roads") / "easy"
    make_roads(root, "easy", train=8, val=3)
    return root


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    def run(main: Callable[[], None], *words: object) -> None:
        monkeypatch.setattr(sys, "argv", ["examples/lanes/x.py", *map(str, words)])
        main()

    return run


@pytest.fixture(scope="module")
def trained(roads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "lanes"
    with pytest.MonkeyPatch.context() as patch:
        words = ["--root", str(roads), "--run_dir", str(folder), "--max_epochs", "1", "--precision", "32-true", *QUICK]
        patch.setattr(sys, "argv", ["examples/lanes/train.py", *words])
        train.main()
    return folder


@pytest.mark.slow
def test_a_run_is_trained_evaluated_and_resumed(
    trained: Path, roads: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    results = json.loads((trained / "evaluation/metrics.json").read_text())
    assert list(results) == ["F1", "precision", "recall", "accuracy", "FP", "FN"]
    words = ["--root", roads, "--run_dir", trained, "--max_epochs", 2, "--precision", "32-true", *QUICK]
    with pytest.raises(DetrLiteError, match="holds a run; continue it with --resume"):
        call(train.main, *words)
    call(train.main, *words, "--resume")
    assert "step 4: F1 " in capsys.readouterr().out


def test_lanes_are_drawn_with_their_attention(
    trained: Path,
    roads: Path,
    tmp_path: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("examples.lanes.evaluation.FoundLanes.queries", lambda self: [0, 7])
    picture = sorted((roads / "clips/1").iterdir())[0]
    call(predict.main, picture, "--checkpoint", trained, "--output", tmp_path / "out")
    with Image.open(tmp_path / "out" / f"{picture.stem}.png") as drawn:
        assert drawn.width > 2 * 640
    assert shlex.quote(str(picture)) in capsys.readouterr().out
    with pytest.raises(DetrLiteError, match="is not empty"):
        call(predict.main, picture, "--checkpoint", trained, "--output", tmp_path / "out")


def test_a_split_is_measured_and_its_results_are_written(
    trained: Path, roads: Path, tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    results, page = tmp_path / "results.json", tmp_path / "lanes.html"
    call(evaluate.main, "--checkpoint", trained, "--root", roads, "--results", results, "--explore", page)
    out = capsys.readouterr().out
    measured = json.loads((trained / "evaluation/metrics.json").read_text())
    table = {line.split()[0]: line.split()[1] for line in out.splitlines() if len(line.split()) == 3}
    assert {name: float(table[name]) for name in measured} == pytest.approx(measured, abs=0.0006)
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    names = [json.loads(line)["raw_file"] for line in (roads / "test_label.json").read_text().splitlines()]
    assert [line["raw_file"] for line in lines] == names
    assert all(len(lane) == len(line["h_samples"]) for line in lines for lane in line["lanes"])
    assert "clips/1/00000.jpg" in page.read_text()
