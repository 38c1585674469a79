"""Relevance and occlusion of detections, and the curves that say which map is right, as the page holds them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from detr_lite.evaluation.attribution import ImageAttribution, area_under
from detr_lite.viz.explorer.quantize import quantize_rows

LEFT_OUT = "relevance and occlusion"
"""What the page calls them where they exceed the budget."""


def pack_attribution(
    attribution: ImageAttribution, is_image: Bool[Tensor, " token"]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Metadata, and the maps as blobs with a row for each detection.

    The blob `relevance` has the tokens that are not padding, in the order of cross-attention; `occlusion` has the cells
    of the grid, 0 where the score rises when they are hidden.
    """
    rows, columns = attribution.grid
    metadata = {
        "queries": list(attribution.queries),
        "labels": list(attribution.labels),
        # The cells divide the image itself, so that no cell ends outside it.
        "grid": {"width": columns, "height": rows, "spanWidth": columns, "spanHeight": rows},
        "fractions": _rounded(attribution.fractions, 5),
        "deletion": {name: _rounded(curves, 3) for name, curves in attribution.deletion.items()},
        "insertion": {name: _rounded(curves, 3) for name, curves in attribution.insertion.items()},
        "areas": {
            "deletion": _areas(attribution.fractions, attribution.deletion),
            "insertion": _areas(attribution.fractions, attribution.insertion),
        },
    }
    blobs = {
        "relevance": quantize_rows(attribution.relevance[:, is_image.to(attribution.relevance.device)]),
        "occlusion": quantize_rows(attribution.occlusion.clamp(min=0)),
    }
    return metadata, {name: text for name, part in blobs.items() if (text := part.to_base64()) is not None}


def relabeled_attribution(packed: dict[str, Any] | None, places: Sequence[int]) -> dict[str, Any] | None:
    """With labels of the page instead of the model's."""
    return packed and packed | {"labels": [places[label] for label in packed["labels"]]}


def _areas(
    fractions: Float[np.ndarray, " point"], by_name: Mapping[str, Float[np.ndarray, "object point"]]
) -> dict[str, list[float]]:
    return {name: _rounded(area_under(fractions, curves), 4) for name, curves in by_name.items()}


def _rounded(values: Float[np.ndarray, "..."], digits: int) -> Any:
    return np.asarray(values, dtype=np.float64).round(digits).tolist()
