"""Settings of detr_lite's own models, which a model of transformers would ignore without a word."""

from typing import Any

from detr_lite.errors import DetrLiteError

SHARED = ("name", "source", "num_queries", "init_from", "pretrained", "freeze_first_stage")
"""Settings of a model that mean something to all, or that have checks of their own."""


def refuse_own_settings(source: str, model: Any, model_default: Any, loss: Any, loss_default: Any) -> None:
    """Errors: a setting of our own models or losses that is not its default."""
    own = ["model.freeze_first_stage"] if model.freeze_first_stage else []
    for section, values, defaults in (("model", model, model_default), ("loss", loss, loss_default)):
        changed = [name for name, value in vars(values).items() if value != getattr(defaults, name)]
        own += [f"{section}.{name}" for name in changed if name not in SHARED]
    if own:
        raise DetrLiteError(f"{own[0]} has no effect on {source}, which has its own; leave it away")
