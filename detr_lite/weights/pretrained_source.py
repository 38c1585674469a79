"""Models of transformers from the Hugging Face hub or a folder of `save_pretrained`, with sizes and class names."""

import contextlib
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from detr_lite.config import Config
from detr_lite.data.coco_names import COCO_NAMES
from detr_lite.data.transforms import ResizeRule
from detr_lite.families.network import FamilyDetr, family_config
from detr_lite.families.registry import Network, family_of, require_transformers
from detr_lite.structures import Category, DetrLiteError
from detr_lite.text import printable, reason_of, shorten_list
from detr_lite.weights.checkpoint import Description
from detr_lite.weights.checkpoint_path import CONFIG_FILE, HUB
from detr_lite.weights.files import read_json

logger = logging.getLogger(__name__)

PROCESSOR_FILE = "preprocessor_config.json"
RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's number -> interpolation of a `ResizeRule`."""
WITHOUT_ANTIALIAS = ("RfDetrImageProcessor",)
"""Image processors that resize floating-point pixels without smoothing; their settings do not say so."""
UNUSED = ("N/A", "LABEL_")
"""Names, or beginnings of them, that configurations give to labels without a class."""
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
BATCH_SIZE = 8
"""Images per batch of an evaluation, which no training has chosen."""


@dataclass(frozen=True)
class SourceSettings:
    """A source without its weights."""

    architecture: dict[str, Any]
    """Its configuration, with all defaults."""
    resize: ResizeRule
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_source(name: str) -> tuple[FamilyDetr, Description]:
    """The model in evaluation mode, and what is needed to use it.

    No code of the source is executed: classes are those of the installed transformers, weights are tensors alone.

    Args:
        name: on the hub, such as "ustc-community/dfine-small-coco", or a folder.

    Errors: those of `source_settings`, and weights that do not fit the configuration.
    """
    settings = source_settings(name)
    if not Path(name).is_dir():
        logger.info("loading %s%s", HUB, printable(name))
    with _errors_of(name), _quiet_transformers(Path(name).is_dir()):
        categories = label_categories(family_config(settings.architecture).id2label)
        model = FamilyDetr(_load_network(name, settings.architecture))
    return model.eval(), describe_model(name, settings, categories)


def source_settings(name: str) -> SourceSettings:
    """What is needed to use a source, apart from its weights.

    Errors: transformers is not installed, a source that cannot be found or is no object detector of a known family, one
    that asks for its own code, and preprocessing that detr_lite does not have.
    """
    require_transformers()
    is_local = Path(name).is_dir()
    if not is_local and not _HUB_NAME.fullmatch(name):
        raise DetrLiteError(
            f"{printable(name)}: no such folder, and not a name on the hub, such as ustc-community/dfine-small-coco"
        )
    with _errors_of(name), _quiet_transformers(is_local):
        settings = _read_config(name)
        _check_config(settings)
        architecture = json.loads(family_config(settings).to_json_string(use_diff=False))
        return SourceSettings(architecture, *preprocessing_of(_read_processor(name)))


def describe_model(name: str, settings: SourceSettings, categories: tuple[Category, ...]) -> Description:
    """What a checkpoint would know of a source that is used as it is."""
    config = Config()
    config = replace(
        config,
        data=replace(config.data, batch_size=BATCH_SIZE, image_size=settings.resize.size, resize=settings.resize.kind),
        model=replace(
            config.model,
            name="transformers",
            source=name,
            num_queries=settings.architecture["num_queries"],
            pretrained=False,
        ),
    )
    return Description(config, categories, settings.resize, settings.mean, settings.std, settings.architecture)


def label_categories(names: Mapping[int, str]) -> tuple[Category, ...]:
    """A category for each label, whose id is the label; labels without a class of their own are called unused.

    Errors: labels that are not counted from 0.
    """
    if sorted(names) != list(range(len(names))):
        raise DetrLiteError(f"id2label in its config.json names labels {shorten_list(sorted(names))}, not 0, 1, 2 ...")
    used: set[str] = set()
    categories = []
    is_coco = list(names.values()) == [f"LABEL_{label}" for label in range(91)]
    for label in range(len(names)):
        name = COCO_NAMES.get(label, "N/A") if is_coco else str(names[label])
        if name.startswith(UNUSED) and (is_coco or not _is_only_numbers(names)):
            name = f"unused {label}"
        categories.append(Category(label, name if name not in used else f"{name} ({label})"))
        used.add(name)
    return tuple(categories)


def _is_only_numbers(names: Mapping[int, str]) -> bool:
    """Whether nobody has named the classes."""
    return all(name.startswith("LABEL_") for name in names.values())


def preprocessing_of(processor: Any) -> tuple[ResizeRule, tuple[float, ...], tuple[float, ...]]:
    """Resize rule, mean and standard deviation of an image processor of transformers.

    Errors: preprocessing that detr_lite does not have.
    """
    if not processor.do_rescale:
        raise DetrLiteError(f"{PROCESSOR_FILE}: do_rescale is false, which detr_lite does not support")
    if not processor.do_resize:
        raise DetrLiteError(f"{PROCESSOR_FILE}: do_resize is false, which detr_lite does not support")
    # Their pixels are 0 .. 255 times this factor, ours 0 .. 1.
    scale = 255 * processor.rescale_factor
    mean: Sequence[float] = processor.image_mean if processor.do_normalize else (0.0, 0.0, 0.0)
    std: Sequence[float] = processor.image_std if processor.do_normalize else (1.0, 1.0, 1.0)
    return _resize_rule(processor), tuple(value / scale for value in mean), tuple(value / scale for value in std)


def processor_of(description: Description) -> Any:
    """The inverse of `preprocessing_of`: the image processor of the model's family with the settings of a run.

    Errors: a resize rule that transformers does not have.
    """
    import transformers

    assert description.architecture is not None
    rule = description.resize
    size = {"height": rule.size, "width": rule.max_size or rule.size}
    if rule.kind == "shortest":
        size = {"shortest_edge": rule.size, "longest_edge": rule.max_size or 100 * rule.size}
    elif rule.kind == "longest":
        raise DetrLiteError(
            "data.resize longest leaves small images as they are, which no image processor of transformers does; "
            "export safetensors, or train with --data.resize fit"
        )
    elif rule.kind == "fit":
        size = {"max_height": rule.size, "max_width": rule.size}
    return getattr(transformers, family_of(description.architecture).processor)(
        size=size,
        resample={name: number for number, name in RESAMPLING.items()}[rule.interpolation],
        do_normalize=True,
        image_mean=list(description.mean),
        image_std=list(description.std),
        do_pad=rule.kind != "stretch",
    )


def _resize_rule(processor: Any) -> ResizeRule:
    if processor.resample not in RESAMPLING:
        raise DetrLiteError(f"{PROCESSOR_FILE}: resample {processor.resample} is none of {list(RESAMPLING)}")
    options: dict[str, Any] = {
        "interpolation": RESAMPLING[processor.resample],
        "antialias": type(processor).__name__ not in WITHOUT_ANTIALIAS,
    }
    size = {key: value for key, value in dict(processor.size).items() if value is not None}
    if set(size) == {"height", "width"}:
        width = None if size["width"] == size["height"] else size["width"]
        return ResizeRule("stretch", size["height"], width, **options)
    if set(size) == {"shortest_edge", "longest_edge"}:
        return ResizeRule("shortest", size["shortest_edge"], size["longest_edge"], rounds_shorter=True, **options)
    if set(size) == {"max_height", "max_width"} and size["max_height"] == size["max_width"]:
        return ResizeRule("fit", size["max_height"], **options)
    raise DetrLiteError(f"{PROCESSOR_FILE}: size {size} is no resize rule of detr_lite")


def _read_config(name: str) -> dict[str, Any]:
    import transformers

    if Path(name).is_dir():
        return read_json(Path(name) / CONFIG_FILE)
    settings, _ = transformers.PreTrainedConfig.get_config_dict(name, trust_remote_code=False)
    return dict(settings)


def _check_config(settings: Mapping[str, Any]) -> None:
    if settings.get("auto_map"):
        raise DetrLiteError("its config.json asks for code of its own (auto_map), which is never executed")
    family_of(settings)
    architectures = settings.get("architectures") or []
    others = [name for name in architectures if not str(name).endswith("ForObjectDetection")]
    if others:
        raise DetrLiteError(f"it is a {others[0]}, not an object detector")


def _load_network(name: str, architecture: Mapping[str, Any]) -> Network:
    import transformers

    network_class = getattr(transformers, f"{family_of(architecture).class_prefix}ForObjectDetection")
    network, loading = network_class.from_pretrained(
        name,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        dtype=torch.float32,  # whatever the file has
    )
    mismatched = sorted(loading["mismatched_keys"])
    if mismatched:
        key, of_file, of_model = mismatched[0]
        raise DetrLiteError(
            f"{len(mismatched):,} of its tensors do not have the shapes of its config.json, such as {key}: "
            f"{list(of_file)} instead of {list(of_model)}"
        )
    missing = sorted(loading["missing_keys"])
    if missing:
        raise DetrLiteError(f"its weights lack {len(missing):,} of the model's tensors, such as {missing[0]}")
    return network


def _read_processor(name: str) -> Any:
    import transformers

    return transformers.AutoImageProcessor.from_pretrained(name, trust_remote_code=False)


@contextlib.contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """One line with the source's name; transformers and the hub raise errors of many types."""
    try:
        yield
    except DetrLiteError as error:
        raise DetrLiteError(f"{_shown(name)}: {error}") from error
    except Exception as error:
        if Path(name).is_dir():
            raise DetrLiteError(f"{name}: could not be loaded ({reason_of(error)})") from error
        raise DetrLiteError(
            f"{HUB}{name} could not be loaded ({reason_of(error)}); check the name on https://huggingface.co, connect "
            "to the internet to download it once, or give a folder that save_pretrained has written"
        ) from error


def _shown(name: str) -> str:
    return name if Path(name).is_dir() else f"{HUB}{name}"


@contextlib.contextmanager
def _quiet_transformers(is_local: bool) -> Iterator[None]:
    """Without its warnings, since weights that do not fit are an error here; progress is that of a download alone."""
    from transformers.utils import logging as transformers_logging

    verbosity, has_progress = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    hub = logging.getLogger("huggingface_hub")  # which says at each of its attempts that there is no network
    hub_level = hub.level
    hub.setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    if is_local:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        hub.setLevel(hub_level)
        transformers_logging.set_verbosity(verbosity)
        if has_progress:
            transformers_logging.enable_progress_bar()
