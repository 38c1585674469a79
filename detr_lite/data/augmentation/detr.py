"""Scales and crops of the original DETR (arXiv 2005.12872, appendix A.4)."""

import torch
from jaxtyping import Int
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from detr_lite.data.transforms import ResizeRule
from detr_lite.structures import DetrLiteError


def detr_scales(resize: ResizeRule) -> v2.Transform:
    """Random scales, and crops before that with probability 1/2, with the paper's sizes scaled by `size` / 800.

    Errors: a resize rule other than "shortest".
    """
    if resize.kind != "shortest":
        raise DetrLiteError(
            f'augmentation "detr" scales the shorter side, but the resize rule is "{resize.kind}"; '
            "set --data.resize shortest or --data.augmentation light"
        )

    def scaled(pixels: int) -> int:
        return max(1, round(pixels * resize.size / 800))

    random_resize = v2.RandomChoice([v2.Resize(scaled(side), max_size=resize.max_size) for side in range(480, 801, 32)])
    random_zoom = v2.Compose(
        [
            v2.RandomChoice([v2.Resize(scaled(side)) for side in (400, 500, 600)]),
            RandomSizeCrop(scaled(384), scaled(600)),
            random_resize,
        ]
    )
    return v2.RandomChoice([random_resize, random_zoom])


class RandomSizeCrop(torch.nn.Module):
    """Crop a rectangle of random size and position (original DETR). Objects outside of it are dropped.

    Height and width are drawn independently from `min_size` .. `max_size` pixels, limited by the image.
    """

    def __init__(self, min_size: int, max_size: int) -> None:
        super().__init__()
        self.min_size, self.max_size = min_size, max_size

    def forward(
        self, image: tv_tensors.Image, boxes: tv_tensors.BoundingBoxes, labels: Int[Tensor, " object"]
    ) -> tuple[tv_tensors.Image, tv_tensors.BoundingBoxes, Tensor]:
        image_height, image_width = functional.get_size(image)
        height, width = self._side(image_height), self._side(image_width)
        top, left = _randint(0, image_height - height), _randint(0, image_width - width)
        boxes = functional.clamp_bounding_boxes(functional.crop(boxes, top, left, height, width))
        # SanitizeBoundingBoxes would drop boxes smaller than a pixel, which the original DETR keeps.
        keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        return (
            functional.crop(image, top, left, height, width),
            tv_tensors.wrap(boxes[keep], like=boxes),
            labels[keep],
        )

    def _side(self, image_side: int) -> int:
        return _randint(min(self.min_size, image_side), min(self.max_size, image_side))


def _randint(low: int, high: int) -> int:
    """Uniform over low .. high, both included, from torch's default generator, which is seeded per image."""
    return int(torch.randint(low, high + 1, ()))
