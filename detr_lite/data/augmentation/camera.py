"""What cameras do to pixels: blur and JPEG compression, at the size that the model gets."""

import io
from typing import Any

import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

BLUR_KERNEL, BLUR_SIGMA = 5, (0.3, 1.5)
"""In pixels."""

JPEG_QUALITY = (30, 90)


class Blur(v2.GaussianBlur):  # type: ignore[misc]
    """Gaussian blur of images that are large enough for it: torchvision's padding fails at sides of 1 and 2 pixels."""

    def __init__(self) -> None:
        super().__init__(BLUR_KERNEL, BLUR_SIGMA)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        is_small = min(functional.get_size(inpt)) <= BLUR_KERNEL // 2
        return inpt if is_small else super().transform(inpt, params)


class JPEG(v2.Transform):  # type: ignore[misc]
    """JPEG compression of random quality, by Pillow: torchvision has deprecated its own encoder."""

    _transformed_types = (tv_tensors.Image,)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"quality": int(torch.randint(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        file = io.BytesIO()
        functional.to_pil_image(inpt).save(file, format="JPEG", quality=params["quality"])
        with Image.open(file) as image:
            return functional.to_image(image)
