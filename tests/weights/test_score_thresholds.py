"""Score thresholds from a file of an evaluation, joined with the classes of a model by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from detr_lite.structures import Category, DetrLiteError
from detr_lite.weights.score_thresholds import ScoreThresholds, read_thresholds

MODEL = (Category(1, "cat"), Category(2, "dog"), Category(3, "motorbike"), Category(4, "zebra"))


def content(**rows: float) -> dict[str, Any]:
    per_class = [{"category": name, "score": 0.11, "threshold": score} for name, score in rows.items()]
    return {"score": 0.5, "per_class": per_class}


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_classes_are_joined_by_name(tmp_path: Path) -> None:
    """In another order, in another spelling, and with a class that the model does not have."""
    path = written(tmp_path / "thresholds.json", content(Dog=0.2, sofa=0.9, motorcycle=0.3, cat=0.1))
    assert read_thresholds(path, MODEL) == ScoreThresholds(0.5, (0.1, 0.2, 0.3, 0.5))


def test_a_file_without_classes(tmp_path: Path) -> None:
    assert read_thresholds(written(tmp_path / "t.json", content()), MODEL[:2]) == ScoreThresholds(0.5, (0.5, 0.5))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, "not the score thresholds of an evaluation"),
        ({"score": 0.5, "per_class": 3}, "not the score thresholds of an evaluation"),
        ({"score": 0.5, "per_class": [{"category": "cat"}]}, "score threshold None is not a number from 0 to 1"),
        ([0.5], "expected a JSON object"),
        (content(cat=1.5), "score threshold 1.5 is not a number from 0 to 1"),
        ({"score": None, "per_class": [{"category": "cat", "score": None}]}, "has no best score, as no detection was"),
        (content(cat=float("nan")), "score threshold nan is not a number from 0 to 1"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, found: Any, reason: str) -> None:
    path = written(tmp_path / "thresholds.json", found)
    with pytest.raises(DetrLiteError) as caught:
        read_thresholds(path, MODEL)
    assert str(caught.value).startswith(f"{path}: {reason}")


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), float("inf"), "0.5", None, True])
def test_what_is_no_score(score: Any) -> None:
    with pytest.raises(DetrLiteError, match="is not a number from 0 to 1"):
        ScoreThresholds.from_dict({"overall": 0.5, "per_class": [0.5, score]})
