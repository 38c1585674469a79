"""The initial model of a run: random weights, or those of a checkpoint."""

from pathlib import Path

from detr_lite.build import build_model, build_resize
from detr_lite.config import Config, ModelConfig
from detr_lite.families.network import FamilyDetr
from detr_lite.model.detr import Detr
from detr_lite.model.pretrained import normalization_of
from detr_lite.structures import Category, DetrLiteError
from detr_lite.text import printable
from detr_lite.weights.arch_info import ArchInfo
from detr_lite.weights.checkpoint import Description
from detr_lite.weights.checkpoint_path import source_name
from detr_lite.weights.family_init import family_description, initial_family_model
from detr_lite.weights.imports import ImportedModel, load_any_checkpoint
from detr_lite.weights.pretrained_source import source_settings
from detr_lite.weights.transfer import ModelWeights, architecture_of, transfer

STRUCTURE = (
    *("name", "backbone", "strides", "dilation", "dim", "heads"),
    *("encoder_layers", "decoder_layers", "feedforward_dim"),
)
"""Settings that decide whether weights fit; shapes do not show all of them, such as heads."""


def new_description(config: Config, categories: tuple[Category, ...]) -> Description:
    """The description of a new run whose open settings have been chosen.

    Errors: those of the source of a model of transformers.
    """
    if config.model.source is not None:
        return family_description(config, categories, source_settings(source_name(config.model.source)))
    mean, std = normalization_of(config.model.backbone)
    return Description(config, categories, build_resize(config.data), mean, std)


def model_title(model: ModelConfig) -> str:
    """What a new run trains: the model, its backbone, and where the first weights come from."""
    if model.source is not None:
        return printable(model.source)
    weights = f"weights of {printable(model.pretrained)}" if isinstance(model.pretrained, str) else "pretrained weights"
    weights = "given weights" if model.init_from else weights if model.pretrained else "random weights"
    return f"{model.name} on {model.backbone} ({weights})"


def initial_model(description: Description) -> tuple[Detr | FamilyDetr, list[str]]:
    """The model of a new run, and notes on what was loaded from `model.init_from`.

    If the checkpoint lacks weights of the backbone, `model.pretrained` fills them in, so that batch norm is
    never frozen with random statistics; otherwise nothing is downloaded.

    Errors: those of reading the checkpoint, and one of which nothing in the transformer fits.
    """
    config, classes = description.config.model, len(description.categories)
    if config.source is not None:
        return initial_family_model(description)
    if config.init_from is None:
        return build_model(config, classes), _frozen_at_random(config)
    try:
        defaults = ArchInfo(dilation=config.dilation, heads=config.heads)
        source = load_any_checkpoint(Path(config.init_from), defaults=defaults)
    except DetrLiteError as error:
        raise DetrLiteError(f"--model.init_from: {error}") from error
    source_weights = _model_weights(source.model, source.description)
    model = build_model(config, classes, for_checkpoint=True)
    result = transfer(source_weights, _model_weights(model, description))
    differences = _differences(source.description.config.model, config)
    if not result.has_transformer:
        raise DetrLiteError(
            f"--model.init_from {config.init_from}: nothing in its transformer fits ({', '.join(differences)}); "
            "give the settings that it was trained with"
        )
    extra = []
    if config.pretrained and any(name.startswith("backbone.network.") for name in result.initialized):
        model = build_model(config, classes)
        result = transfer(source_weights, _model_weights(model, description))
        extra = ["newly initialized weights of the backbone are pretrained ones"]
    elif any(name.startswith("backbone.network.conv1.") for name in result.initialized):
        extra = _frozen_at_random(config)
    model.load_state_dict(result.state)
    if differences:
        extra.append(f"settings that differ: {', '.join(differences)}")
    copied, *others = result.summary()
    notes = [f"from {printable(config.init_from)}: {copied}", *source.notes, *others, *extra]
    return model, [*notes, *_normalization_notes(source, description)]


def _frozen_at_random(config: ModelConfig) -> list[str]:
    if config.pretrained or not config.freeze_first_stage:
        return []
    return [
        "the backbone's first stage is frozen with random weights; set --model.pretrained true, or "
        "--model.freeze_first_stage false"
    ]


def _model_weights(model: Detr, description: Description) -> ModelWeights:
    names = [category.name for category in description.categories]
    return ModelWeights(model.state_dict(), names, description.config.model.backbone)


def _differences(source: ModelConfig, config: ModelConfig) -> list[str]:
    found = []
    for name in STRUCTURE:
        old, new = getattr(source, name), getattr(config, name)
        is_same = architecture_of(old) == architecture_of(new) if name == "backbone" else old == new
        if not is_same:
            found.append(f"{name} {_plain(new)} (checkpoint: {_plain(old)})")
    return found


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _normalization_notes(source: ImportedModel, description: Description) -> list[str]:
    """The run normalizes pixels as its backbone was pretrained, whatever the checkpoint was trained with."""
    old, new = source.description, description
    if (old.mean, old.std) == (new.mean, new.std):
        return []
    return [
        f"pixels are normalized with mean {new.mean} and standard deviation {new.std} of {new.config.model.backbone}; "
        f"the checkpoint was trained with {old.mean} and {old.std}"
    ]
