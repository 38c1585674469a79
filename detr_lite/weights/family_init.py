"""A detector of transformers for the categories of a dataset: its description, and its initial weights."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from detr_lite.config import Config
from detr_lite.data.name_matching import match_names
from detr_lite.data.transforms import ResizeRule
from detr_lite.families.network import FamilyDetr, build_network
from detr_lite.families.registry import CLASS_LAYERS
from detr_lite.structures import Category, DetrLiteError
from detr_lite.text import printable, shorten_list
from detr_lite.weights.checkpoint import Description
from detr_lite.weights.checkpoint_path import source_name
from detr_lite.weights.pretrained_source import SourceSettings, load_source


def family_description(config: Config, categories: tuple[Category, ...], settings: SourceSettings) -> Description:
    """The description of a run whose open settings have been chosen."""
    names = {str(label): category.name for label, category in enumerate(categories)}
    architecture = {
        **settings.architecture,
        "id2label": names,
        "label2id": {name: int(label) for label, name in names.items()},
        "num_queries": config.model.num_queries,
    }
    return Description(
        config, categories, _resize_of(config, settings.resize), settings.mean, settings.std, architecture
    )


def _resize_of(config: Config, source: ResizeRule) -> ResizeRule:
    """The source's rule, as far as the settings do not change it."""
    size, kind = config.data.image_size, config.data.resize
    assert size is not None
    assert kind is not None
    if (kind, size) == (source.kind, source.size):
        return source
    largest = None
    if kind == "shortest":
        ratio = 1333 / 800 if source.max_size is None or source.kind != kind else source.max_size / source.size
        largest = round(size * ratio)
    # Rounded as transformers does, which an export has to reproduce.
    return replace(source, kind=kind, size=size, max_size=largest, rounds_shorter=kind == "shortest")


def initial_family_model(description: Description) -> tuple[FamilyDetr, list[str]]:
    """The source's model with heads for the description's categories, and notes on what was loaded.

    Rows of the class layers are the source's where it has a category of that name, else they are initialized as those
    of a new model. Errors: those of `load_source`.
    """
    config = description.config.model
    assert config.source is not None
    assert description.architecture is not None
    if config.init_from is not None:
        raise DetrLiteError("--model.init_from does not go with --model.name transformers; name it as --model.source")
    source, of_source = load_source(source_name(config.source))
    model = FamilyDetr(build_network(description.architecture, len(description.categories)))
    names, of_source_names = ([each.name for each in own] for own in (description.categories, of_source.categories))
    rows = match_names(of_source_names, names)
    state, anew = model.state_dict(), []
    for name, value in source.state_dict().items():
        if name not in state:
            continue
        if any(layer in name for layer in CLASS_LAYERS):
            state[name] = _with_rows(state[name], value, rows, len(of_source.categories))
        elif state[name].shape == value.shape:
            state[name] = value
        else:
            anew.append(name)
    model.load_state_dict(state)
    return model, _notes(config.source, description, rows, anew)


def _with_rows(own: Tensor, other: Tensor, rows: dict[int, int], classes: int) -> Tensor:
    """`own` with the other's rows of the same classes, and with its rows behind the classes."""
    own, behind = own.clone(), other.shape[0] - classes
    if rows:
        own[torch.tensor(list(rows))] = other[torch.tensor(list(rows.values()))]
    if behind:
        own[-behind:] = other[-behind:]
    return own


def _notes(source: str, description: Description, rows: dict[int, int], anew: Sequence[str]) -> list[str]:
    names = [category.name for category in description.categories]
    kept = [names[label] for label in sorted(rows)]
    others = [name for label, name in enumerate(names) if label not in rows]
    notes = [f"from {printable(source)}"]
    if kept:
        notes.append(f"classes kept by name: {printable(shorten_list(kept))}")
    if others:
        notes.append(f"classes initialized anew: {printable(shorten_list(others))}")
    if anew:
        notes.append(f"initialized anew, as they have another shape: {shorten_list(anew, 3)}")
    return notes
