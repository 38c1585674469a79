"""What the page says of its models, and the classes of all of them under one numbering."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detr_lite.drawing.boxes import display_name
from detr_lite.viz.explorer.attribution import relabeled_attribution
from detr_lite.viz.explorer.outcomes import relabeled_outcome


@dataclass(frozen=True)
class ExploredModel:
    """A model whose attention the page shows."""

    name: str
    """Different from that of the page's other models."""
    class_names: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    """What the header says of it, such as "AP 0.649"."""


@dataclass(frozen=True)
class TrainingFrame:
    """A picture of attention at an evaluation of a run."""

    step: int
    note: str
    """Such as "AP 0.649"."""
    picture: str
    """A data URI, as of `encode_picture`."""


def joined_classes(models: Sequence[ExploredModel]) -> tuple[list[str], list[list[int]]]:
    """All class names, and for each model the place of each of its labels among them."""
    names: list[str] = []
    places = []
    for model in models:
        own = [display_name(name) for name in model.class_names]
        names += [name for name in dict.fromkeys(own) if name not in names]
        places.append([names.index(name) for name in own])
    return names, places


def relabeled(metadata: dict[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """A scene's metadata with labels of the page instead of its model's."""
    detections = metadata["detections"]
    return metadata | {
        "detections": detections | {"labels": [places[label] for label in detections["labels"]]},
        "querySummaries": [own and own | {"label": places[own["label"]]} for own in metadata["querySummaries"]],
        "outcome": relabeled_outcome(metadata.get("outcome"), places),
        "attribution": relabeled_attribution(metadata.get("attribution"), places),
    }
