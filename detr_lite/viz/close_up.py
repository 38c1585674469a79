"""Objects too small to be seen in a whole image, and the part of the image around them."""

from collections.abc import Sequence

Part = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels."""

_SMALL = 0.08
"""An object whose longest side is a smaller share of the image's is shown in a part of the image around it."""

_PART = 0.3
"""Share of the image's sides that the part has at least."""

_LEAST = 48.0
"""Pixels that its sides have at least."""


def part_around(box_xyxy: Sequence[int | float], image_size: tuple[int, int]) -> Part | None:
    """The part of the image to show beside the whole; None if the box is not small, or reaches out of the image.

    Args:
        box_xyxy: with corners in order.
        image_size: (width, height).
    """
    left, top, right, bottom = box_xyxy
    longest, extent = max(image_size), max(right - left, bottom - top)
    is_inside = left >= 0 and top >= 0 and right <= image_size[0] and bottom <= image_size[1]
    if extent > _SMALL * longest or not is_inside:
        return None
    width, height = (round(min(side, max(_PART * side, 4 * extent, _LEAST))) for side in image_size)
    if (width, height) == image_size:
        return None
    x = round(min(max(0.0, (left + right - width) / 2), image_size[0] - width))
    y = round(min(max(0.0, (top + bottom - height) / 2), image_size[1] - height))
    return x, y, x + width, y + height


def views_of(box_xyxy: Sequence[float], image_size: tuple[int, int]) -> list[Part | None]:
    """What to show of an image for a predicted box: the whole, which is None, and the part around a small one."""
    limits = (*image_size, *image_size)
    clipped = [min(max(edge, 0.0), float(limit)) for edge, limit in zip(box_xyxy, limits, strict=True)]
    part = part_around(clipped, image_size)
    return [None] if part is None else [None, part]
