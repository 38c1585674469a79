"""What is known of somebody's DETR: what its weights show, what its file says, and our description made of both."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from detr_lite.build import build_resize
from detr_lite.config import Config, DataConfig, ModelConfig
from detr_lite.data.coco_names import COCO_NAMES
from detr_lite.data.transforms import MEAN, STD, ResizeRule
from detr_lite.structures import Category, DetrLiteError
from detr_lite.weights.checkpoint import Description

RESNETS = {
    (2, 2, 2, 2, False): "resnet18",
    (3, 4, 6, 3, False): "resnet34",
    (3, 4, 6, 3, True): "resnet50",
    (3, 4, 23, 3, True): "resnet101",
    (3, 8, 36, 3, True): "resnet152",
}
"""timm's name by the number of blocks in each stage, and whether they are bottlenecks."""

COCO_LABELS = 91
"""The original's label is the category's id itself, from 0 to 90; the unused numbers have rows, too."""


@dataclass(frozen=True)
class ArchInfo:
    """What is known of a model; None where it is not."""

    backbone: str | None = None
    dilation: bool | None = None
    dim: int | None = None
    heads: int | None = None
    encoder_layers: int | None = None
    decoder_layers: int | None = None
    feedforward_dim: int | None = None
    num_queries: int | None = None
    dropout: float | None = None
    classes: int | None = None
    names: Mapping[int, str] | None = None
    """The class of each label, as far as they are told."""
    resize: ResizeRule | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def or_else(self, other: "ArchInfo") -> "ArchInfo":
        """What is not known here, from there."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return ArchInfo(**{name: getattr(other, name) if value is None else value for name, value in values.items()})


ORIGINAL = ArchInfo(
    backbone="resnet50",
    dilation=False,
    dim=256,
    heads=8,
    encoder_layers=6,
    decoder_layers=6,
    feedforward_dim=2048,
    num_queries=100,
    dropout=0.1,
    classes=COCO_LABELS,
)
"""The original's sizes, where neither weights nor file tell them."""

SIZES = ("dim", "encoder_layers", "decoder_layers", "feedforward_dim", "num_queries", "classes")
"""Facts that both weights and settings tell."""

NOT_OF_THE_MODEL = ("classes", "names", "resize", "mean", "std")
"""Facts that are no settings of the model."""


def arch_info_from_weights(shapes: Mapping[str, tuple[int, ...]]) -> ArchInfo:
    """What the shapes of weights show, under our names of them. A few that are missing or wrong do no harm."""

    def firsts(pattern: str) -> list[int]:
        return [shape[0] for name, shape in shapes.items() if shape and re.fullmatch(pattern, name)]

    rows = _usual(firsts(r"heads\.label\.(weight|bias)"))
    return ArchInfo(
        backbone=_resnet(shapes),
        dim=_usual(firsts(r"(encoder|decoder)\.layers\.\d+\.\w+_norm\.(weight|bias)")),
        encoder_layers=_count(shapes, "encoder.layers."),
        decoder_layers=_count(shapes, "decoder.layers.") or None,
        feedforward_dim=_usual(firsts(r"(encoder|decoder)\.layers\.\d+\.feedforward\.0\.(weight|bias)")),
        num_queries=_usual(firsts(r"queries\.position\.weight")),
        classes=None if rows is None else rows - 1,
    )


def arch_info_from_settings(settings: Mapping[str, Any], keys: Mapping[str, str], place: str) -> ArchInfo:
    """Whole numbers and shares out of somebody's settings.

    Args:
        keys: field of `Facts` -> their name of it.
        place: what the message of an error calls the settings.
    """
    values = {field: settings[key] for field, key in keys.items() if settings.get(key) is not None}
    for field, value in values.items():
        if type(value) is not int and not (field == "dropout" and type(value) is float):
            raise DetrLiteError(f"{place}: {keys[field]} is {value!r}; it must be a number")
    if "dropout" in values:
        values["dropout"] = float(values["dropout"])
    return ArchInfo(**values)


def describe(facts: ArchInfo) -> Description:
    """Our description of a model of which all is known but, perhaps, the names of its classes."""
    # One image at a time, as the original's DC5 models were measured: none is padded.
    data = DataConfig(root="datasets/coco", batch_size=1, image_size=800, resize="shortest", augmentation="detr")
    sizes = {field.name: getattr(facts, field.name) for field in fields(facts) if field.name not in NOT_OF_THE_MODEL}
    model = ModelConfig(name="detr", strides=(16,) if facts.dilation else (32,), **sizes)
    resize = build_resize(data)
    if facts.resize is not None:
        resize = facts.resize
        data = replace(data, image_size=resize.size)
    return Description(Config(data=data, model=model), _categories(facts), resize, facts.mean or MEAN, facts.std or STD)


def _categories(facts: ArchInfo) -> tuple[Category, ...]:
    """Every label under its number. Rows that stand for nothing keep their place, or the scores would be others."""
    assert facts.classes is not None
    labels = range(facts.classes)
    if facts.names is None and facts.classes != COCO_LABELS:
        return tuple(Category(label, f"class {label}") for label in labels)
    names = COCO_NAMES if facts.names is None else facts.names
    return tuple(Category(label, names.get(label, f"unused {label}")) for label in labels)


def _resnet(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    blocks = [_count(shapes, f"backbone.network.layer{stage}.") for stage in (1, 2, 3, 4)]
    has_bottlenecks = any(re.fullmatch(r"backbone\.network\.layer\d\.\d+\.conv3\.weight", name) for name in shapes)
    return RESNETS.get((*blocks, has_bottlenecks))  # type: ignore[arg-type]


def _count(shapes: Iterable[str], prefix: str) -> int:
    """Of numbered modules, as the last number says, but never more than there are tensors in them."""
    numbers = [name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)]
    return min(max((int(number) + 1 for number in numbers if number.isdecimal()), default=0), len(numbers))


def _usual(sizes: Iterable[int]) -> int | None:
    ranking = Counter(sizes).most_common(1)
    return ranking[0][0] if ranking else None
