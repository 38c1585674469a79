"""Pairs of images side by side, and the sheet of a run's samples: ground truth beside predictions."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from detr_lite.drawing.boxes import draw_boxes, fit, font_size
from detr_lite.drawing.crowded import add_caption
from detr_lite.drawing.fonts import label_font
from detr_lite.structures import Detections
from detr_lite.viz.guesses import detections_or_guesses, format_threshold, guess_caption

_WHITE, _BLACK = (255, 255, 255), (20, 20, 20)


def side_by_side(
    pairs: Sequence[tuple[Image.Image, Image.Image]],
    titles: tuple[str, str] = ("ground truth", "prediction"),
    columns: int = 2,
) -> Image.Image:
    """A grid of pairs of images, `columns` pairs in a row, with the titles above each pair of columns."""
    columns = max(1, min(columns, len(pairs)))
    rows = [pairs[start : start + columns] for start in range(0, len(pairs), columns)]
    images = [image for pair in pairs for image in pair]
    cell_width = max((image.width for image in images), default=200)
    row_heights = [max(image.height for pair in row for image in pair) for row in rows]

    narrow, wide = max(4, cell_width // 80), max(12, cell_width // 14)  # within a pair, between pairs
    font = label_font(max(12, cell_width // 20))
    header = round(1.6 * font.size)
    pair_width = 2 * cell_width + narrow
    size = (columns * (pair_width + wide) + wide, wide // 2 + header + sum(row_heights) + len(rows) * wide)
    grid = Image.new("RGB", size, _WHITE)
    draw = ImageDraw.Draw(grid)

    def left_edge(column: int, side: int) -> int:
        return wide + column * (pair_width + wide) + side * (cell_width + narrow)

    for column in range(columns):
        for side in (0, 1):
            middle = left_edge(column, side) + cell_width / 2
            draw.text((middle, wide // 2 + header / 2), titles[side], fill=_BLACK, font=font, anchor="mm")
    top = wide // 2 + header
    for row, height in zip(rows, row_heights, strict=True):
        for column, pair in enumerate(row):
            for side in (0, 1):
                image = pair[side]
                grid.paste(image, (left_edge(column, side) + (cell_width - image.width) // 2, top))
        top += height + wide
    return grid


def samples_sheet(
    items: Sequence[tuple[Image.Image, Detections, Detections]], threshold: float, panel: int = 320
) -> Image.Image:
    """Ground truth beside prediction for each (image, ground truth, prediction).

    An image with objects in which no score reaches the threshold shows the best guesses, dashed and called so.

    Args:
        threshold: the lowest score of a prediction that is shown as a detection.
        panel: pixels of each image's longer side.
    """
    pairs = []
    for image, truth, prediction in items:
        shown, below, caption = prediction.above(threshold), None, ""
        if len(shown) == 0 and len(truth) == 0:
            caption = f"no score reaches {format_threshold(threshold)}"
        elif len(shown) == 0:
            guesses = detections_or_guesses(prediction, threshold)
            shown, below = guesses.detections, guesses.below
            caption = f"no score reaches {format_threshold(threshold)}" if below is None else guess_caption(below)
        enlarged, truth_xyxy = fit(image, truth.boxes_xyxy, panel)
        _, shown_xyxy = fit(image, shown.boxes_xyxy, panel)
        names = shown.class_names
        predicted = draw_boxes(enlarged, shown_xyxy, shown.labels, names, shown.scores, below is not None)
        if caption:
            predicted = add_caption(predicted, caption, font_size(enlarged))
        pairs.append((draw_boxes(enlarged, truth_xyxy, truth.labels, truth.class_names), predicted))
    return side_by_side(pairs, ("ground truth", f"prediction (score at least {threshold:g})"))
