"""Other tasks than boxes for the explorer: lines in an image, and sentences about an image or another sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from detr_lite.drawing.boxes import class_name
from detr_lite.structures import AttentionMaps, Detections, DetrLiteError
from detr_lite.text import printable
from detr_lite.viz.explorer.scene import LOW_SCORE, PackedScene, assemble, true_boxes


@dataclass(frozen=True)
class Line:
    """A line in an image, such as the lane that a query predicts."""

    points: Float[Tensor, "point 2"]
    """(x, y) in pixels of the image, from one end to the other; at least two."""
    score: float
    label: int
    query: int


def pack_lines(
    name: str,
    image: Image.Image,
    lines: Sequence[Line],
    attention: AttentionMaps,
    truth: Sequence[Line] | None = None,
    budget: int = 8_000_000,
    class_names: Sequence[str] = (),
) -> PackedScene:
    """Pack an image with lines instead of boxes; all else is as in `pack_scene`.

    Args:
        lines: of all queries that have one, in any order.
        truth: of these, only points and labels count.
        class_names: those of the page, for the names of true lines.

    Errors: a line of fewer than two points; a query that the attention does not have.
    """
    queries = attention.cross.shape[3]
    for line in [*lines, *(truth or ())]:
        if len(line.points) < 2:
            raise DetrLiteError(f"{printable(name)}: the line of query {line.query} has fewer than two points")
    for line in lines:
        if not 0 <= line.query < queries:
            raise DetrLiteError(
                f"{printable(name)}: a line is of query {line.query}; the attention has {queries} queries"
            )
    ordered = sorted(lines, key=lambda line: -line.score)
    summaries: list[dict[str, Any] | None] = [None] * queries
    for line in reversed(ordered):
        own = {"box": _box(line), "line": _points(line), "label": line.label, "score": round(line.score, 4)}
        summaries[line.query] = own
    true_lines = None
    if truth is not None:
        names = [class_name(line.label, tuple(class_names)) for line in truth]
        true_lines = {
            "boxes": [_box(line) for line in truth],
            "lines": [_points(line) for line in truth],
            "names": names,
        }
    metadata = {
        "kind": "lines",
        "detections": {
            "boxes": [_box(line) for line in ordered],
            "lines": [_points(line) for line in ordered],
            "scores": [round(line.score, 4) for line in ordered],
            "labels": [line.label for line in ordered],
            "queries": [line.query for line in ordered],
        },
        "querySummaries": summaries,
        "truth": true_lines,
    }
    first = [line.query for line in ordered if line.score >= LOW_SCORE]
    return assemble(name, image, metadata, attention, first, [line.query for line in ordered], budget)


def pack_words(
    name: str,
    words: Sequence[str],
    attention: AttentionMaps,
    image: Image.Image | None = None,
    source_words: Sequence[str] | None = None,
    truth: Detections | Sequence[Sequence[int]] | None = None,
    budget: int = 8_000_000,
    inputs: Sequence[str] | None = None,
) -> PackedScene:
    """Pack a sentence whose words are the queries: over an image (captions), or over another sentence (translation).

    The words stay in reading order. Over an image, a word's cross-attention is a heat map; over `source_words` it is a
    row of a matrix. Self-attention between the words is a matrix, too.

    Args:
        words: one for each query: the word that it predicts.
        attention: of a batch of one; over a sentence, its only grid is (1, number of source words).
        truth: ground-truth objects of the image; or for each word the indices of the source words that it translates.
        inputs: what the decoder got at each position, the keys of its self-attention: with teacher forcing the words
            moved by one, after a start token. By default the words.

    Errors: neither or both of an image and source words; numbers of words that do not fit the attention.
    """
    if (image is None) == (source_words is None):
        raise DetrLiteError(f"{printable(name)}: give an image or source_words, which the words attend to")
    inputs = words if inputs is None else inputs
    queries, tokens = attention.cross.shape[3:]
    for what, count, expected in (
        ("words", len(words), queries),
        ("inputs", len(inputs), attention.queries.shape[-1]),
        ("source_words", tokens if source_words is None else len(source_words), tokens),
    ):
        if count != expected:
            raise DetrLiteError(f"{printable(name)}: {count} {what}, but the attention has {expected}")
    alignment: list[list[int]] | None = None
    boxes: dict[str, Any] | None = None
    if isinstance(truth, Detections):
        boxes = true_boxes(truth)
    elif truth is not None:
        alignment = [list(each) for each in truth]
        if len(alignment) != queries or any(not 0 <= token < tokens for each in alignment for token in each):
            raise DetrLiteError(
                f"{printable(name)}: truth must have for each of {queries} words indices below {tokens}"
            )
    metadata: dict[str, Any] = {
        "kind": "words",
        "words": [printable(word) for word in words],
        "inputs": [printable(word) for word in inputs],
        "sourceWords": None if source_words is None else [printable(word) for word in source_words],
        "alignment": alignment,
        "detections": {"boxes": [], "scores": [], "labels": [], "queries": []},
        "querySummaries": [None] * queries,
        "truth": boxes,
    }
    return assemble(name, image, metadata, attention, range(queries), range(queries), budget)


def _points(line: Line) -> list[list[float]]:
    return [[round(side, 1) for side in point] for point in line.points.tolist()]


def _box(line: Line) -> list[float]:
    """The line's bounding box (x0, y0, x1, y1)."""
    lowest, highest = line.points.amin(0).tolist(), line.points.amax(0).tolist()
    return [round(side, 1) for side in (*lowest, *highest)]
