"""The box around an outline of COCO's "segmentation": polygons, or a run-length encoded mask."""

from collections.abc import Iterator

import numpy as np

from detr_lite.data.formats.values import number_of

Box = tuple[float, float, float, float]


def outline_box(outline: object) -> Box | None:
    """[x, y, width, height] around an outline, in pixels; None for an empty one and for what is none."""
    return _mask_box(outline) if isinstance(outline, dict) else _polygon_box(outline)


def _polygon_box(outline: object) -> Box | None:
    """Around all points; their coordinates may be in one list, one list for each polygon, or one for each point."""
    numbers = np.array([number_of(value) for value in _flatten(outline)])
    if len(numbers) < 4 or len(numbers) % 2 or not np.isfinite(numbers).all():
        return None
    points = numbers.reshape(-1, 2)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right - left, bottom - top


def _flatten(value: object, levels: int = 3) -> Iterator[object]:
    """All entries of nested lists; what is nested more deeply is no outline, and stays a list."""
    if isinstance(value, list) and levels:
        for each in value:
            yield from _flatten(each, levels - 1)
    else:
        yield value


def _mask_box(mask: dict[str, object]) -> Box | None:
    """Around the ones of a mask {"size": [height, width], "counts": lengths of runs}, column by column from the left.

    The runs are of zeros and ones in turn; as text they are compressed (pycocotools, rleFrString).
    """
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        return None
    height, width = size
    runs = _decompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and 0 <= run <= height * width for run in runs):
        return None
    ends = np.cumsum(np.array(runs, dtype=np.float64))
    if not runs or ends[-1] > height * width:
        return None
    starts = np.concatenate([[0], ends[:-1]])[1::2]
    ends = ends[1::2]
    is_run = ends > starts
    starts, last = starts[is_run], ends[is_run] - 1
    if not len(starts):
        return None
    left, right = float((starts // height).min()), float((last // height).max())
    if (starts // height != last // height).any():  # a run that goes on in the next column
        top, bottom = 0.0, height - 1.0
    else:
        top, bottom = float((starts % height).min()), float((last % height).max())
    return left, top, right - left + 1, bottom - top + 1


def _decompress(text: str) -> list[int] | None:
    """The runs of a compressed mask: six-bit characters, five bits of a number each, differences from the third run."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs if shift == 0 else None
