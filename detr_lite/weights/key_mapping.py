"""Maps the state_dict keys of `detr` to those of other programs and back."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

State = dict[str, Tensor]


class KeyMapping:
    """Names of the modules of `detr` in another program.

    Args:
        modules: internal name of each module -> external name. A * stands for an index, the same in both.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._to_external = _rules(modules.items())
        self._to_internal = _rules((external, internal) for internal, external in modules.items())

    def external_name(self, name: str) -> str:
        return _renamed(name, self._to_external)

    def internal_name(self, name: str) -> str:
        """Unknown names are returned unchanged."""
        return _renamed(name, self._to_internal)

    def to_external(self, state: Mapping[str, Tensor]) -> State:
        """A state_dict of `detr` as the other program's."""
        return {self.external_name(name): value for name, value in state.items()}

    def to_internal(self, state: Mapping[str, Tensor]) -> State:
        """A state_dict of the other program as `detr`'s; names and shapes must be right."""
        return {self.internal_name(name): value for name, value in state.items()}


def differences(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """What prevents loading `given` in place of `expected`: a message for each kind of difference."""
    missing = sorted(set(expected) - set(given))
    unexpected = sorted(set(given) - set(expected))
    common = sorted(set(given) & set(expected))
    misshapen = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in common
        if given[name].shape != expected[name].shape
    ]
    # Quantised weights have the right names and shapes, but other values.
    not_float = [f"{name} {given[name].dtype}" for name in common if not given[name].is_floating_point()]
    kinds = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": misshapen,
        "not floating-point": not_float,
    }
    return [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]


_Rules = list[tuple[re.Pattern[str], str]]


def _rules(pairs: Iterable[tuple[str, str]]) -> _Rules:
    # The longest name first, as a submodule may have a rule of its own.
    return [
        (re.compile(re.escape(source).replace(r"\*", r"(\d+)") + r"(?=\.)"), target.replace("*", r"\1"))
        for source, target in sorted(pairs, key=lambda pair: -len(pair[0]))
    ]


def _renamed(name: str, rules: _Rules) -> str:
    for pattern, target in rules:
        if pattern.match(name):
            return pattern.sub(target, name, count=1)
    return name
