"""`--threshold best`: the scores of the checkpoint, else of the evaluation beside it, and where they are applied."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_lite.detector import Detector
from detr_lite.weights.checkpoint import KEY, store_thresholds
from detr_lite.weights.score_thresholds import ScoreThresholds

OWN = ScoreThresholds(0.35, (0.001, 1.0, 0.25))


@pytest.fixture
def checkpoint(finished_run: Path, tmp_path: Path) -> Path:
    """In a run folder of its own, with other scores than those of the run."""
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    shutil.copy(finished_run / "checkpoints" / "best.ckpt", path)
    store_thresholds(path, OWN)
    return path


@pytest.fixture
def plain(checkpoint: Path) -> Path:
    """The same checkpoint without thresholds."""
    content = torch.load(checkpoint, weights_only=True)
    del content[KEY]["thresholds"]
    torch.save(content, checkpoint)
    return checkpoint


def expected_scores(checkpoint: Path, images: Path, least: tuple[float, ...]) -> list[float]:
    detector = Detector.from_checkpoint(checkpoint, "cpu")
    return [
        score
        for path in sorted(images.glob("*.png"))
        for found in [detector(path)]
        for score, label in zip(found.scores.tolist(), found.labels.tolist(), strict=True)
        if score >= least[label]
    ]


@pytest.mark.stress
def test_each_class_has_its_own_score(
    run_tool: Callable[..., Any], checkpoint: Path, tiny_data: Path, tmp_path: Path
) -> None:
    words = ("--checkpoint", checkpoint, "--source", tiny_data / "val", "--output", tmp_path / "out")
    ended = run_tool("predict", *words, "--threshold", "best")
    assert (ended.code, ended.err) == (0, "")
    assert "best score of each class, from the checkpoint: blue thing 0.001, red thing 1, green thing" in ended.out
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    expected = expected_scores(checkpoint, tiny_data / "val", OWN.per_class)
    assert [each["score"] for each in content["annotations"]] == pytest.approx(expected, abs=1e-5)
    for score in OWN.per_class:
        assert expected != expected_scores(checkpoint, tiny_data / "val", (score, score, score))
    assert content["info"]["threshold"] == "best"
    assert [(row["category_id"], row["score"]) for row in content["info"]["scores"]] == [
        (3, 0.001),
        (7, 1.0),
        (90, 0.25),
    ]

    assert run_tool("predict", *words, "--threshold", 0.25, "--overwrite").code == 0
    assert json.loads((tmp_path / "out" / "detections.json").read_text())["info"] == {"threshold": 0.25}


@pytest.mark.slow
def test_one_score_for_all_classes_is_printed_as_one(
    run_tool: Callable[..., Any], checkpoint: Path, tiny_data: Path, tmp_path: Path
) -> None:
    store_thresholds(checkpoint, ScoreThresholds(0.3, (0.3, 0.3, 0.3)))
    words = ("--checkpoint", checkpoint, "--source", tiny_data / "val", "--output", tmp_path / "out")
    ended = run_tool("predict", *words, "--threshold", "best")
    assert "(score at least 0.3, the best one of the checkpoint)" in ended.out


@pytest.mark.slow
def test_the_scores_of_the_evaluation_beside_it(
    run_tool: Callable[..., Any], refusal: Callable[..., str], plain: Path, tiny_data: Path, tmp_path: Path
) -> None:
    words = ("--checkpoint", plain, "--source", tiny_data / "val", "--output", tmp_path / "out", "--threshold", "best")
    file = plain.parents[1] / "evaluation" / "thresholds.json"
    message = refusal("predict", *words)
    assert message.startswith(f"--threshold best: {plain} has no score thresholds, and {file} does not exist")
    assert message.endswith(f"evaluate.py --checkpoint {plain}")
    assert not (tmp_path / "out").exists()

    before = plain.read_bytes()
    assert run_tool("evaluate", "--checkpoint", plain, "--num_workers", 0).code == 0
    assert plain.read_bytes() == before, "a checkpoint that was only given to read"
    ended = run_tool("predict", *words)
    assert (ended.code, ended.err) == (0, "")
    assert str(file) in ended.out
    best = json.loads(file.read_text())["score"]  # of less than 10 objects of each class
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [row["score"] for row in content["info"]["scores"]] == [best, best, best]
    expected = expected_scores(plain, tiny_data / "val", (best, best, best))
    assert [each["score"] for each in content["annotations"]] == pytest.approx(expected, abs=1e-5)

    file.write_text("{}")
    assert refusal("predict", *words, "--overwrite").startswith(f"{file}: not the score thresholds of an evaluation")


@pytest.mark.stress
def test_figures_and_the_explorer(
    run_tool: Callable[..., Any], checkpoint: Path, tiny_data: Path, tmp_path: Path
) -> None:
    words = ("visualize", "--checkpoint", checkpoint, "--source", tiny_data / "val" / "000.png", "--threshold", "best")
    assert run_tool(*words, "--output", tmp_path / "figures").code == 0
    assert run_tool(*words, "--output", tmp_path / "boxes", "--figure", "query_boxes").code == 0
    store_thresholds(checkpoint, ScoreThresholds(0.35, (1.0, 0.9999, 1.0)))
    ended = run_tool(*words, "--output", tmp_path / "none")
    assert "no score reaches the best of its class in 1 of 1 images" in ended.out
    ended = run_tool(*words, "--explore", tmp_path / "page.html")
    assert (ended.code, ended.err) == (0, "")
    assert '"threshold":0.35' in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("bset", "argument --threshold: 'bset' is neither a score from 0 to 1 nor best; see --help"),
        ("2", "--threshold is 2.0; it must be from 0 to 1, or best"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "visualize", "explore"])
def test_errors_agree(
    refusal: Callable[..., str], tiny_data: Path, tmp_path: Path, command: str, given: str, part: str
) -> None:
    words = ("--checkpoint", "none.ckpt", "--source", tiny_data / "val", "--threshold", given)
    out = ("--explore", tmp_path / "page.html") if command == "explore" else ("--output", tmp_path / "out")
    assert refusal("predict" if command == "predict" else "visualize", *words, *out) == part
