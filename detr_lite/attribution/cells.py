"""An image in cells, each of which can be hidden."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from detr_lite.evaluation.attention_metrics import covered_share, token_patches
from detr_lite.structures import AttentionMaps

MOST = 16
"""Cells along the longer side, as in D-RISE (arXiv 2006.03204, section 5.1)."""


@dataclass(frozen=True)
class Cells:
    """A grid over an image; cells are counted row by row."""

    rows: int
    columns: int
    height: int
    """Of the image that the model sees, in pixels."""
    width: int

    @staticmethod
    def of(height: int, width: int) -> "Cells":
        """About square, at most `MOST` along the longer side and none smaller than a pixel."""
        longer = max(height, width)
        rows, columns = (max(1, round(min(MOST, longer) * side / longer)) for side in (height, width))
        return Cells(rows, columns, height, width)

    @property
    def count(self) -> int:
        return self.rows * self.columns

    def of_pixels(self) -> Int[Tensor, "height width"]:
        """The cell of each pixel."""
        row = torch.arange(self.height) * self.rows // self.height
        column = torch.arange(self.width) * self.columns // self.width
        return row[:, None] * self.columns + column

    def boxes_xyxy(self) -> Float[Tensor, "cell 4"]:
        """Relative to the image."""
        y, x = torch.meshgrid(torch.arange(self.rows), torch.arange(self.columns), indexing="ij")
        corners = torch.stack([x, y, x + 1, y + 1], -1).flatten(0, 1).float()
        return corners / torch.tensor([self.columns, self.rows, self.columns, self.rows])

    def covered(
        self, pixels: Float[Tensor, "3 height width"], cover: Tensor, hidden: Bool[Tensor, "image cell"]
    ) -> Float[Tensor, "image 3 height width"]:
        """Copies of an image, of each of which other cells are hidden under `cover`: an image, or a color."""
        is_hidden = hidden[:, self.of_pixels()][:, None].to(pixels.device)
        return torch.where(is_hidden, cover, pixels)

    def windows(self) -> Bool[Tensor, "window cell"]:
        """A window of three by three cells around each cell, cut off at the border."""
        cell = torch.arange(self.count)
        row, column = cell // self.columns, cell % self.columns
        near = (row[:, None] - row).abs().maximum((column[:, None] - column).abs())
        return near <= 1

    def of_tokens(self, maps: AttentionMaps, weights: Float[Tensor, "object token"]) -> Float[Tensor, "object cell"]:
        """Weights of tokens as weights of cells, as if each were spread evenly over its token's patch.

        Args:
            maps: of a batch of one.
        """
        boxes = self.boxes_xyxy().to(weights.device)
        shares = covered_share(token_patches(maps).expand(len(boxes), -1, -1), boxes)
        return weights @ shares.to(weights).T
