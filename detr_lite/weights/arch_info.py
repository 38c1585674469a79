"""Architecture of an imported DETR, inferred from the shapes of its weights and the settings in its files."""

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
"""Number of blocks in each stage, and whether they are bottlenecks -> timm's name."""

COCO_LABELS = 91
"""Number of labels of models trained on COCO: DETR's labels are the category ids 0 to 90, unused ones included."""


@dataclass(frozen=True)
class ArchInfo:
    """Sizes, classes and preprocessing of a model; None where unknown."""

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
    """Label -> class name; unused labels are missing."""
    resize: ResizeRule | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def with_defaults(self, defaults: "ArchInfo") -> "ArchInfo":
        """The same with `defaults` in place of what is None."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return ArchInfo(**{name: getattr(defaults, name) if value is None else value for name, value in values.items()})


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
"""Sizes of the original DETR, for what neither weights nor files show."""

SIZES = ("dim", "encoder_layers", "decoder_layers", "feedforward_dim", "num_queries", "classes")
"""Fields that both weights and settings show."""

NOT_MODEL_SETTINGS = ("classes", "names", "resize", "mean", "std")
"""Fields that are no settings of the model."""


def arch_info_from_weights(shapes: Mapping[str, tuple[int, ...]]) -> ArchInfo:
    """What the shapes of a state_dict of `detr` show; robust against a few missing or wrong ones."""

    def first_dims(pattern: str) -> list[int]:
        return [shape[0] for name, shape in shapes.items() if shape and re.fullmatch(pattern, name)]

    rows = _most_common(first_dims(r"heads\.label\.(weight|bias)"))
    return ArchInfo(
        backbone=_resnet(shapes),
        dim=_most_common(first_dims(r"(encoder|decoder)\.layers\.\d+\.\w+_norm\.(weight|bias)")),
        encoder_layers=_count(shapes, "encoder.layers."),
        decoder_layers=_count(shapes, "decoder.layers.") or None,
        feedforward_dim=_most_common(first_dims(r"(encoder|decoder)\.layers\.\d+\.feedforward\.0\.(weight|bias)")),
        num_queries=_most_common(first_dims(r"queries\.position\.weight")),
        classes=None if rows is None else rows - 1,
    )


def arch_info_from_settings(settings: Mapping[str, Any], keys: Mapping[str, str], source: str) -> ArchInfo:
    """Sizes from the settings of another program.

    Args:
        keys: field of `ArchInfo` -> key in the settings.
        source: of the settings, for error messages.

    Errors: a value that is not a number.
    """
    values = {field: settings[key] for field, key in keys.items() if settings.get(key) is not None}
    for field, value in values.items():
        if type(value) is not int and not (field == "dropout" and type(value) is float):
            raise DetrLiteError(f"{source}: {keys[field]} is {value!r}; it must be a number")
    if "dropout" in values:
        values["dropout"] = float(values["dropout"])
    return ArchInfo(**values)


def describe(info: ArchInfo) -> Description:
    """The `Description` of a model whose architecture is complete; class names may be missing."""
    # Batches of one image, as DETR-DC5 was evaluated, so that none is padded.
    data = DataConfig(root="datasets/coco", batch_size=1, image_size=800, resize="shortest", augmentation="detr")
    sizes = {field.name: getattr(info, field.name) for field in fields(info) if field.name not in NOT_MODEL_SETTINGS}
    model = ModelConfig(name="detr", strides=(16,) if info.dilation else (32,), **sizes)
    resize = build_resize(data)
    if info.resize is not None:
        resize = info.resize
        data = replace(data, image_size=resize.size)
    return Description(Config(data=data, model=model), _categories(info), resize, info.mean or MEAN, info.std or STD)


def _categories(info: ArchInfo) -> tuple[Category, ...]:
    """A category for each row of the class layer, unused ones included, as they are part of the softmax."""
    assert info.classes is not None
    labels = range(info.classes)
    if info.names is None and info.classes != COCO_LABELS:
        return tuple(Category(label, f"class {label}") for label in labels)
    names = COCO_NAMES if info.names is None else info.names
    return tuple(Category(label, names.get(label, f"unused {label}")) for label in labels)


def _resnet(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    blocks = [_count(shapes, f"backbone.network.layer{stage}.") for stage in (1, 2, 3, 4)]
    has_bottlenecks = any(re.fullmatch(r"backbone\.network\.layer\d\.\d+\.conv3\.weight", name) for name in shapes)
    return RESNETS.get((*blocks, has_bottlenecks))  # type: ignore[arg-type]


def _count(shapes: Iterable[str], prefix: str) -> int:
    """Number of modules with consecutive indices, at most the number of tensors in them."""
    numbers = [name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)]
    return min(max((int(number) + 1 for number in numbers if number.isdecimal()), default=0), len(numbers))


def _most_common(sizes: Iterable[int]) -> int | None:
    ranking = Counter(sizes).most_common(1)
    return ranking[0][0] if ranking else None
