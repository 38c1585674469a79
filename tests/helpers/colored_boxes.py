"""Images in which each object has a color of its own, so that boxes can be compared with pixels."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255), (255, 255, 255)]
GRAY = 0.4


def colored_sample(
    height: int, width: int, boxes_xyxy: list[list[int]], labels: list[int] | None = None
) -> tuple[Image.Image, tv_tensors.BoundingBoxes, Tensor]:
    """A gray image with a filled rectangle per box, of the color of its label; the labels count up by default."""
    labels = list(range(len(boxes_xyxy))) if labels is None else labels
    pixels = np.full((height, width, 3), round(GRAY * 255), dtype=np.uint8)
    for label, (left, top, right, bottom) in zip(labels, boxes_xyxy, strict=True):
        pixels[top:bottom, left:right] = COLORS[label]
    boxes = torch.tensor(boxes_xyxy, dtype=torch.float32).reshape(-1, 4)
    return (
        Image.fromarray(pixels),
        tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),
        torch.tensor(labels, dtype=torch.int64),
    )


def color_extent(image: Tensor, label: int) -> Tensor | None:
    """(x0, y0, x1, y1) around the pixels (0 .. 1) nearer to a label's color than to gray and all other colors."""
    palette = torch.cat([torch.tensor(COLORS) / 255, torch.full((1, 3), GRAY)])
    nearest = (image[:, None] - palette.T[:, :, None, None]).abs().sum(dim=0).argmin(dim=0)
    rows, columns = torch.where(nearest == label)
    if len(rows) == 0:
        return None
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
