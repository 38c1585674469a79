"""`train --draw_augmented`: a contact sheet of training images, to see what augmentation makes of them."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from detr_lite.config import Config
from detr_lite.drawing.boxes import draw_boxes, fit
from detr_lite.io import atomic_write
from detr_lite.training.detection import make_data, read_data
from detr_lite.training.input_pictures import input_pictures
from detr_lite.weights.init import new_description

COUNT, COLUMNS, PANEL = 24, 6, 320
"""Images of a sheet, and pixels of the longer side of each."""


def draw_augmented(config: Config, path: Path, count: int = COUNT) -> None:
    """Write the first training images of a run, augmented and with their boxes, into a PNG.

    Errors: those of the settings and the data.
    """
    config, train, val = read_data(config)
    description = new_description(config, train.categories)
    data, names = make_data(config, train, val, description), [category.name for category in train.categories]
    panels: list[Image.Image] = []
    epoch_batches, number = -(-len(train.images) // data.batch_size), 0
    while len(panels) < count:
        batch = data.training_batch(*divmod(number, epoch_batches), 0, 1)
        assert batch.targets is not None
        for (image, boxes_xyxy), target in zip(
            input_pictures(batch, description.mean, description.std), batch.targets, strict=True
        ):
            large, large_xyxy = fit(image, boxes_xyxy, PANEL)
            panels.append(draw_boxes(large, large_xyxy, target.labels, names))
        number += 1
    sheet = contact_sheet(panels[:count])
    atomic_write(path, lambda file: sheet.save(file, format="PNG"), durable=False)


def contact_sheet(panels: Sequence[Image.Image], columns: int = COLUMNS) -> Image.Image:
    """Images in rows, each centered in a cell of the size of the largest."""
    columns = max(1, min(columns, len(panels)))
    width, height = (max((panel.size[axis] for panel in panels), default=1) + 8 for axis in (0, 1))
    sheet = Image.new("RGB", (columns * width, -(-len(panels) // columns) * height), (255, 255, 255))
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        sheet.paste(panel, (column * width + (width - panel.width) // 2, row * height + (height - panel.height) // 2))
    return sheet
