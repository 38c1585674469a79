"""The families of DETR in `transformers`, and what its own code does not say of them."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from detr_lite.structures import DetrLiteError

# transformers is not typed.
Network = Any


@dataclass(frozen=True)
class Family:
    """A family of detectors: `<class_prefix>Config` and `<class_prefix>ForObjectDetection` of transformers."""

    title: str
    class_prefix: str
    paper: str
    processor: str
    """Class of its image processor."""
    activation: Literal["softmax", "sigmoid"] = "sigmoid"
    boxes_include_padding: bool = False
    """Its boxes are relative to the padded image: downstream of the backbone it ignores the padding mask. Such models
    are trained and used on images stretched to a square, which have no padding."""
    is_batch_first: bool = False
    """The loss function gets predictions as (batch layer query ...), not (layer batch query ...)."""
    own_means: tuple[str, ...] = ()
    """Terms of its loss that are not sums divided by the number of objects."""
    reduces_objects: bool = False
    """Its loss divides by the mean number of objects of all processes; others divide by their own process's."""
    is_deformable: bool = True
    """Queries attend to sampled points, not to all tokens."""


_HYBRID: dict[str, Any] = {"boxes_include_padding": True, "is_batch_first": True}

FAMILIES: dict[str, Family] = {
    "detr": Family(
        *("DETR", "Detr", "arXiv 2005.12872", "DetrImageProcessor", "softmax"),
        own_means=("loss_ce",),
        is_deformable=False,
    ),
    "conditional_detr": Family(
        "Conditional DETR", "ConditionalDetr", "arXiv 2108.06152", "ConditionalDetrImageProcessor", is_deformable=False
    ),
    "dab_detr": Family("DAB-DETR", "DabDetr", "arXiv 2201.12329", "ConditionalDetrImageProcessor", is_deformable=False),
    "deformable_detr": Family("Deformable DETR", "DeformableDetr", "arXiv 2010.04159", "DeformableDetrImageProcessor"),
    "rt_detr": Family("RT-DETR", "RTDetr", "arXiv 2304.08069", "RTDetrImageProcessor", **_HYBRID),
    "rt_detr_v2": Family("RT-DETRv2", "RTDetrV2", "arXiv 2407.17140", "RTDetrImageProcessor", **_HYBRID),
    "d_fine": Family("D-FINE", "DFine", "arXiv 2410.13842", "RTDetrImageProcessor", own_means=("loss_ddf",), **_HYBRID),
    "deimv2": Family(
        "DEIMv2", "Deimv2", "arXiv 2509.20787", "RTDetrImageProcessor", own_means=("loss_ddf",), **_HYBRID
    ),
    "lw_detr": Family("LW-DETR", "LwDetr", "arXiv 2406.03459", "DeformableDetrImageProcessor", reduces_objects=True),
    "rf_detr": Family("RF-DETR", "RfDetr", "arXiv 2511.09554", "RfDetrImageProcessor", reduces_objects=True),
}
"""By `model_type` in config.json, with underscores."""


CLASS_LAYERS = (
    *("class_embed", "class_labels_classifier", "enc_score_head", "enc_out_class_embed", "denoising_class_embed"),
)
"""Parts of the names of layers with a row for each class; some have more rows behind them: "no object", the padding of
denoising."""


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a config.json.

    Errors: a model of another kind.
    """
    kind = str(config.get("model_type")).replace("-", "_")
    if kind not in FAMILIES:
        raise DetrLiteError(f"its model_type {config.get('model_type')!r} is none of {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def require_transformers() -> None:
    """Errors: transformers is not installed."""
    if importlib.util.find_spec("transformers") is None:
        raise DetrLiteError(
            "transformers is not installed; install it with: pip install 'detr_lite[transformers]', or in a checkout "
            "with: pip install -e '.[transformers]'"
        )
