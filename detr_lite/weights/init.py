"""The model that a new run starts with: fresh, or with the weights of another run or of other people."""

from pathlib import Path

from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.model.detr import Detr
from detr_lite.structures import DetrLiteError
from detr_lite.text import printable
from detr_lite.weights.arch_info import ArchInfo
from detr_lite.weights.checkpoint import Description
from detr_lite.weights.imports import Imported, read_foreign
from detr_lite.weights.transfer import Weights, architecture_of, transfer

STRUCTURE = (
    *("name", "backbone", "strides", "dilation", "dim", "heads"),
    *("encoder_layers", "decoder_layers", "feedforward_dim"),
)
"""Settings on which it depends whether weights fit; some of them, such as heads, leave no mark on shapes."""


def initial_model(description: Description) -> tuple[Detr, list[str]]:
    """A new run's model, and a line for each thing that became of the weights of `model.init_from`.

    Where the checkpoint has the whole backbone, nothing is fetched for it. Where it lacks some, the rest is as in any
    run: with `model.pretrained` timm's weights, so that batch norm is never frozen over random ones.

    Errors: those of reading the checkpoint, and one of which nothing of the transformer fits.
    """
    config, classes = description.config.model, len(description.categories)
    if config.init_from is None:
        return build_model(config, classes), _frozen_at_random(config)
    try:
        # What neither the weights nor their file tell is taken to be as in this run.
        own = ArchInfo(dilation=config.dilation, heads=config.heads)
        source = read_foreign(Path(config.init_from), otherwise=own)
    except DetrLiteError as error:
        raise DetrLiteError(f"--model.init_from: {error}") from error
    given = _weights(source.model, source.description)
    model = build_model(config, classes, for_checkpoint=True)
    moved = transfer(given, _weights(model, description))
    differences = _differences(source.description.config.model, config)
    if not moved.has_transformer:
        raise DetrLiteError(
            f"--model.init_from {config.init_from}: nothing of its transformer fits ({', '.join(differences)}); "
            "give the settings that it was trained with"
        )
    extra = []
    if config.pretrained and any(name.startswith("backbone.network.") for name in moved.reset):
        model = build_model(config, classes)
        moved = transfer(given, _weights(model, description))
        extra = ["what is reset of the backbone has timm's pretrained weights"]
    elif any(name.startswith("backbone.network.conv1.") for name in moved.reset):
        extra = _frozen_at_random(config)
    model.load_state_dict(moved.state)
    if differences:
        extra.append(f"settings that differ: {', '.join(differences)}")
    kept, *fates = moved.lines()
    lines = [f"from {printable(config.init_from)}: {kept}", *source.notes, *fates, *extra]
    return model, [*lines, *_pixels(source, description)]


def _frozen_at_random(config: ModelConfig) -> list[str]:
    if config.pretrained or not config.freeze_first_stage:
        return []
    return [
        "the backbone's first stage is frozen with random weights; set --model.pretrained true, or "
        "--model.freeze_first_stage false"
    ]


def _weights(model: Detr, description: Description) -> Weights:
    names = [category.name for category in description.categories]
    return Weights(model.state_dict(), names, description.config.model.backbone)


def _differences(there: ModelConfig, here: ModelConfig) -> list[str]:
    found = []
    for name in STRUCTURE:
        old, new = getattr(there, name), getattr(here, name)
        is_same = architecture_of(old) == architecture_of(new) if name == "backbone" else old == new
        if not is_same:
            found.append(f"{name} {_plain(new)} (there {_plain(old)})")
    return found


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _pixels(source: Imported, description: Description) -> list[str]:
    """The backbone's own normalisation is taken, also where other weights were trained with another."""
    there, here = source.description, description
    if (there.mean, there.std) == (here.mean, here.std):
        return []
    return [
        f"pixels are normalised with mean {here.mean} and deviation {here.std}, as {here.config.model.backbone} wants; "
        f"there it was {there.mean} and {there.std}"
    ]
