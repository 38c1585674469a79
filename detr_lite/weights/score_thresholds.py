"""The score thresholds that go with a model: in its checkpoint, or in the thresholds.json of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detr_lite.data.name_matching import match_names
from detr_lite.structures import Category, DetrLiteError
from detr_lite.text import reason_of, shown
from detr_lite.weights.files import read_json


@dataclass(frozen=True)
class ScoreThresholds:
    """The scores from which on detections are kept, of highest F1 on the images of an evaluation."""

    overall: float
    """One score for all classes together."""
    per_class: tuple[float, ...]
    """By label."""

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as in a checkpoint."""
        return {"overall": self.overall, "per_class": list(self.per_class)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "ScoreThresholds":
        """Errors: something that is not a score from 0 to 1."""
        return ScoreThresholds(_score(values["overall"]), tuple(map(_score, values["per_class"])))


def read_thresholds(path: Path, categories: Sequence[Category]) -> ScoreThresholds:
    """The thresholds in a thresholds.json, for the classes of a model.

    Args:
        categories: the model's, by label; they are matched with the file's by name. One that the file does not have
            gets the score of all classes together.

    Errors: a file that cannot be read, or is not one of an evaluation.
    """
    content = read_json(path)
    try:
        overall, rows = content["score"], content["per_class"]
        names, scores = [str(row["category"]) for row in rows], [row.get("threshold") for row in rows]
    except (AttributeError, KeyError, TypeError) as error:
        raise DetrLiteError(f"{path}: not the score thresholds of an evaluation ({reason_of(error)})") from error
    if overall is None:
        raise DetrLiteError(f"{path}: has no best score, as no detection was right; give --threshold a number")
    found = match_names([category.name for category in categories], names)
    of_label = {label: scores[row] for row, label in found.items()}
    try:
        scores = [of_label.get(label, overall) for label in range(len(categories))]
        return ScoreThresholds(_score(overall), tuple(map(_score, scores)))
    except DetrLiteError as error:
        raise DetrLiteError(f"{path}: {error}") from error


def _score(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise DetrLiteError(f"score threshold {shown(value)} is not a number from 0 to 1")
    return float(value)
