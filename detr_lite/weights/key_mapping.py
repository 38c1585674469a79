"""Other people's names for the weights of `detr`, in both directions."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

State = dict[str, Tensor]


class KeyMapping:
    """What somebody calls the modules of our `detr`.

    Args:
        modules: our name of each module -> theirs. A * stands for a number, the same in both.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._to_theirs = _rules(modules.items())
        self._to_ours = _rules((theirs, ours) for ours, theirs in modules.items())

    def their_name(self, name: str) -> str:
        return _renamed(name, self._to_theirs)

    def our_name(self, name: str) -> str:
        """A name that the layout does not know stays as it is."""
        return _renamed(name, self._to_ours)

    def to_theirs(self, state: Mapping[str, Tensor]) -> State:
        """Our weights in their layout."""
        return {self.their_name(name): value for name, value in state.items()}

    def to_ours(self, state: Mapping[str, Tensor]) -> State:
        """Their weights in our layout; names and shapes must be right."""
        return {self.our_name(name): value for name, value in state.items()}


def differences(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    """All that keeps `given` from being loaded in the place of `expected`, an entry for each kind of fault."""
    missing = sorted(set(expected) - set(given))
    surplus = sorted(set(given) - set(expected))
    common = sorted(set(given) & set(expected))
    misshapen = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in common
        if given[name].shape != expected[name].shape
    ]
    # Quantised weights have the right names and shapes, and mean something else.
    strange = [f"{name} {given[name].dtype}" for name in common if not given[name].is_floating_point()]
    faults = {"missing": missing, "surplus": surplus, "of another shape": misshapen, "not of real numbers": strange}
    return [f"{fault}: {', '.join(names)}" for fault, names in faults.items() if names]


_Rules = list[tuple[re.Pattern[str], str]]


def _rules(pairs: Iterable[tuple[str, str]]) -> _Rules:
    # The longest name first: a part of a module may have a name of its own.
    return [
        (re.compile(re.escape(source).replace(r"\*", r"(\d+)") + r"(?=\.)"), target.replace("*", r"\1"))
        for source, target in sorted(pairs, key=lambda pair: -len(pair[0]))
    ]


def _renamed(name: str, rules: _Rules) -> str:
    for pattern, target in rules:
        if pattern.match(name):
            return pattern.sub(target, name, count=1)
    return name
