"""What became of an object, in one sentence."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """The query that came nearest to an object, after the last layer."""

    query: int
    best_name: str
    best_score: float
    own_score: float | None
    """Of the object's class; None if the model does not have it."""
    iou: float
    inside: float
    """Share of its attention inside the true box."""


@dataclass(frozen=True)
class Rival:
    """The detection that finds an object, or that there is instead."""

    query: int
    name: str
    score: float
    iou: float
    own_score: float | None
    """The query's score for the object's class; None if the model does not have it."""
    other: str | None = None
    """The class of the object that it finds, if that is another one."""


def sentence_of(reason: str, name: str, nearest: Query, rival: Rival | None) -> str:
    """One sentence.

    Args:
        reason: one of `missed.Reason`.
        name: the object's class.
    """
    unknown = f"The model has no class {name}" if nearest.own_score is None else None
    if rival is None:
        text = _of_nothing(name, nearest)
        return text if unknown is None else f"{unknown}; {text[0].lower()}{text[1:]}"
    said = f"query {rival.query} ({rival.name} {rival.score:.2f})"
    if unknown is not None and rival.other is None:
        return f"{unknown}; the nearest detection is that of {said}, IoU {rival.iou:.2f}."
    own = f"{rival.own_score:.2f}" if rival.own_score is not None else "none"
    other = f"another {name}" if rival.other == name else f"another object, {_a(rival.other or rival.name)}"
    texts = {
        "found": f"Found by {said}, IoU {rival.iou:.2f}.",
        "localization": f"Badly placed: {said} has the right class, but its box has an IoU of only {rival.iou:.2f}.",
        "classification": f"Another class: the box of query {rival.query} fits (IoU {rival.iou:.2f}), but it says "
        f"{rival.name} ({rival.score:.2f}) and gives {name} {own}.",
        "threshold": f"Below the minimum score: query {rival.query} would find it (IoU {rival.iou:.2f}), but gives "
        f"{name} only {rival.score:.2f}.",
        "taken": f"Its place is taken: query {rival.query} ({rival.name} {rival.score:.2f}, IoU {rival.iou:.2f}) is "
        f"the detection of {other}, and no second query answered for this one.",
        "both": f"Nothing fits: {said} came near, with neither the class nor the place (IoU {rival.iou:.2f}).",
    }
    text = texts[reason]
    return text if unknown is None else f"{unknown}; {text[0].lower()}{text[1:]}"


def _of_nothing(name: str, nearest: Query) -> str:
    """Where no detection is near."""
    score = nearest.best_score if nearest.own_score is None else nearest.own_score
    of = nearest.best_name if nearest.own_score is None else name
    is_near = nearest.iou >= 0.1
    what, where = ("Taken for background", "there") if is_near else ("No query came near", "elsewhere")
    looked = f"{100 * nearest.inside:.0f} % of its attention was on the object"
    return (
        f"{what}: the nearest query, {nearest.query}, has its box {where} (IoU {nearest.iou:.2f}) and gives {of} "
        f"{score:.2f}; {looked}."
    )


def _a(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
