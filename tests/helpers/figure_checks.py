"""Checks that a figure is legible 800 pixels wide, without texts that overlap or are cut off."""

import itertools

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text


def panels_of(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.images]


def assert_legible(figure: Figure) -> None:
    figure.draw_without_rendering()
    texts = _texts_of(figure)
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    assert len(boxes) >= 5
    for text in texts:
        pixels = text.get_fontsize() / 72 * 800 / figure.get_figwidth()
        assert pixels >= 9, f"{text.get_text()!r} is {pixels:.1f} pixels high"
    for name, box in boxes:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.width + 1 and box.y1 <= figure.bbox.height + 1
        assert inside, f"{name!r} is cut off"
    for (name, box), (other, other_box) in itertools.combinations(boxes, 2):
        # A glyph's side bearing of one pixel does not count.
        width = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
        height = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
        assert width <= 1 or height <= 1, f"{name!r} overlaps {other!r}"
    pictures = [axes.get_window_extent() for axes in figure.axes]
    for name, box in boxes:
        assert not any(picture.padded(-2).overlaps(box) for picture in pictures), f"{name!r} overlaps a panel"


def _texts_of(figure: Figure) -> list[Text]:
    """All that are drawn; of axes that are off, the title alone."""
    texts = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        texts.append(axes.title)
        if axes.axison:
            texts += [axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]
