"""Weights of earlier formats as those of the present one."""

import re
from typing import Any

FORMAT = 6
"""Increased when older versions would misread newer checkpoints, or newer ones older checkpoints."""

UPGRADABLE = (5,)
"""Earlier formats that are read, too."""

CANCELLED = re.compile(
    r"(model\.)?("
    r"decoder\.bias\.\d+\.(horizontal|vertical)\.network\.2|decoder\.pair_bias\.\d+\.network\.2|"
    r"decoder\.layers\.\d+\.cross_attention\.key_(content|position)|(encoder|decoder)\.layers\.\d+\.\w+\.key"
    r")\.bias"
)
"""Parameters of `lite` up to format 5 that added the same number to a query's scores of all tokens."""


def upgrade(content: dict[str, Any], key: str) -> None:
    """Change the content of a checkpoint of format 5 in place into one of format 6.

    Models of `lite` lose the parameters that their softmax cancelled, so they predict the same, unless a bias had
    walked so far that it was clamped. The state of an optimizer still has those parameters: then the format stays 5.

    Args:
        key: of the description.
    """
    description, state = content[key], content["state_dict"]
    settings = description.get("config")
    model = settings.get("model") if isinstance(settings, dict) else None
    is_lite = isinstance(model, dict) and model.get("name") == "lite"
    cancelled = [name for name in state if CANCELLED.fullmatch(name)] if is_lite else []
    content["state_dict"] = {name: value for name, value in state.items() if name not in cancelled}
    if not cancelled:
        description["format"] = FORMAT
