"""Random brightness, contrast, saturation and hue at the price of normalization."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in torchvision's gray."""

CHROMA = ((0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
"""I and Q of the YIQ color space, in whose plane hue is an angle."""


class JitterColors(v2.Transform):  # type: ignore[misc]
    """uint8, or floats in 0 .. 1, to float32 of mean 0 and standard deviation 1, with random colors.

    All four are affine in the pixels, so that one product of a 3 x 3 matrix does them, in a tenth of the time of
    `v2.ColorJitter`: brightness, contrast and saturation are torchvision's (whose order does not matter without the
    clipping to black and white), hue is a rotation in YIQ, which keeps the brightness.

    Args:
        strength: brightness and contrast are drawn from 1 ± this, saturation from 1 ± 1.5 of it, and hue from ± a
            tenth of it, in turns.
    """

    _transformed_types = (tv_tensors.Image,)

    def __init__(self, mean: Sequence[float], std: Sequence[float], strength: float) -> None:
        super().__init__()
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)
        self.strength = strength

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        brightness, contrast, saturation, hue = (self.strength * (2 * torch.rand(4) - 1)).tolist()
        return {
            "brightness": 1 + brightness,
            "contrast": 1 + contrast,
            "saturation": max(0.0, 1 + 1.5 * saturation),
            "hue": hue / 10,
        }

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        pixels = inpt.as_subclass(Tensor).contiguous().float().flatten(1)
        if inpt.is_floating_point():
            pixels = 255 * pixels
        gray_mean = torch.tensor(LUMA) @ pixels.mean(dim=1) / 255
        brightness, contrast = params["brightness"], params["contrast"]
        matrix = brightness * contrast * color_matrix(params["saturation"], params["hue"])
        offset = brightness * (1 - contrast) * gray_mean
        normalized = torch.addmm(((offset - self.mean) / self.std)[:, None], matrix / (255 * self.std[:, None]), pixels)
        return tv_tensors.wrap(normalized.reshape(inpt.shape), like=inpt)


def color_matrix(saturation: float, hue: float) -> Float[Tensor, "3 3"]:
    """Matrix of a factor of saturation and a rotation of hue (in turns) for columns of red, green and blue."""
    to_yiq = torch.tensor([LUMA, *CHROMA])
    to_yiq[0] /= to_yiq[0].sum()  # torchvision's weights add up to 0.9999, and gray has to stay gray
    cosine, sine = (saturation * turn(2 * math.pi * hue) for turn in (math.cos, math.sin))
    turned = torch.tensor([[1.0, 0.0, 0.0], [0.0, cosine, sine], [0.0, -sine, cosine]])
    matrix: Tensor = torch.linalg.inv(to_yiq) @ turned @ to_yiq
    return matrix
