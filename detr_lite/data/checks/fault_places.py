"""Where in its images a fault lies that a report calls by name."""

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from detr_lite.data.records import RawSplit
from detr_lite.text import printable


@dataclass(frozen=True)
class Place:
    """An image, and in it one annotation or none."""

    image: int
    """In the arrays of the raw split."""
    annotation: int | None = None


def find_places(raw: RawSplit, entries: Collection[str]) -> dict[str, Place]:
    """The place of each entry that names an image or an annotation of the split; other entries are left out.

    An image's name may be followed by what was found: "a.jpg (640 x 480)" or "a.jpg: empty file".
    """
    if not entries:
        return {}
    by_name = {printable(name): image for image, name in reversed(list(enumerate(raw.names)))}
    places: dict[str, Place] = {}
    others = []
    for entry in entries:
        ends = [len(entry), *(found.start() for found in re.finditer(r" \(|: ", entry))]
        name = next((entry[:end] for end in sorted(ends, reverse=True) if entry[:end] in by_name), None)
        if name is None:
            others.append(entry)
        else:
            places[entry] = Place(by_name[name])
    if others:
        wanted = set(others)
        for annotation in range(len(raw.origin)):
            name = printable(raw.name_of(annotation))
            if name in wanted:
                places.setdefault(name, Place(int(raw.image_index[annotation]), annotation))
    return places


def box_at(raw: RawSplit, place: Place) -> tuple[float, float, float, float] | None:
    """(x1, y1, x2, y2) of the annotation as the file has it, if it has numbers that can be drawn."""
    if place.annotation is None:
        return None
    x, y, width, height = raw.boxes_xywh[place.annotation].tolist()
    corners = (x, y, x + width, y + height)
    return corners if np.isfinite(corners).all() and max(map(abs, corners)) < 1e6 else None
