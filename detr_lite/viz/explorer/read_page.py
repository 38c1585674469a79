"""What an explorer's page holds, read from the file."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

_METADATA = re.compile(r'<script type="application/json" id="metadata">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True, eq=False)
class ReadScene:
    """An image with its detections by one model."""

    image: int
    """Its number in the page."""
    model: int
    name: str
    """As the page calls it: a file, maybe with folders."""
    size_wh: tuple[int, int]
    boxes_xyxy: Float64[np.ndarray, "detection 4"]
    """In pixels, as all boxes of the page."""
    scores: Float64[np.ndarray, " detection"]
    labels: Int64[np.ndarray, " detection"]
    queries: Int64[np.ndarray, " detection"]
    true_boxes_xyxy: Float64[np.ndarray, "object 4"]
    true_names: tuple[str, ...]
    outcome: dict[str, Any] | None
    """As `pack_outcome` writes it; None where the page does not say why objects were missed."""


@dataclass(frozen=True)
class ReadPage:
    """All images with true objects."""

    file: str
    """The page's name."""
    class_names: tuple[str, ...]
    threshold: float
    """The minimum score that the page shows at first."""
    scenes: tuple[ReadScene, ...]


def read_page(path: Path) -> ReadPage | None:
    """None where there is no file, or one that is no explorer's page of this version."""
    try:
        found = _METADATA.search(path.read_text(encoding="utf-8"))
        return None if found is None else _page(path.name, json.loads(found[1]))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _page(file: str, metadata: dict[str, Any]) -> ReadPage:
    models = max(1, len(metadata["models"]))
    scenes = tuple(
        _scene(*divmod(number, models), scene)
        for number, scene in enumerate(metadata["scenes"])
        if scene["kind"] == "boxes" and scene["truth"] is not None
    )
    names = tuple(each["name"] for each in metadata["classes"])
    return ReadPage(file, names, float(metadata["threshold"]), scenes)


def _scene(image: int, model: int, scene: dict[str, Any]) -> ReadScene:
    found, truth = scene["detections"], scene["truth"]
    return ReadScene(
        image=image,
        model=model,
        name=scene["name"],
        size_wh=(scene["width"], scene["height"]),
        boxes_xyxy=np.array(found["boxes"], dtype=float).reshape(-1, 4),
        scores=np.array(found["scores"], dtype=float),
        labels=np.array(found["labels"], dtype=np.int64),
        queries=np.array(found["queries"], dtype=np.int64),
        true_boxes_xyxy=np.array(truth["boxes"], dtype=float).reshape(-1, 4),
        true_names=tuple(truth["names"]),
        outcome=scene["outcome"],
    )
