"""Resizing and normalization of images and boxes, with torchvision's transforms v2.

A transform maps a Pillow image, `tv_tensors.BoundingBoxes` and labels to three plain tensors. The evaluation transforms
also accept an image alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from detr_lite.structures import DetrLiteError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pixels (red, green, blue) in 0 .. 1, which pretrained backbones expect."""


ResizeKind = Literal["longest", "fit", "shortest", "stretch"]
Interpolation = Literal["bilinear", "bicubic", "nearest"]


@dataclass(frozen=True)
class ResizeRule:
    """How images are resized before the model; all but "stretch" keep the aspect ratio up to rounding."""

    kind: ResizeKind
    """longest: scale down to a longer side of at most `size`, never up. fit: scale down or up to a longer side of
    `size`. shortest: scale to a shorter side of `size`, or to a longer side of `max_size` if that gives a smaller image
    (the original DETR). stretch: to a square of `size`, or to a height of `size` and a width of `max_size`
    (RT-DETR)."""
    size: int
    max_size: int | None = None
    rounds_shorter: bool = False
    """Of "shortest": where `max_size` limits an image, round its shorter side to the nearest pixel, as the original
    DETR and transformers do, and compute the longer one from it; else round down, as torchvision does."""
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    """False: neither smooth what is scaled down nor round the resized pixels to integers (RF-DETR)."""

    def __post_init__(self) -> None:
        if self.size < 1 or (self.max_size is not None and self.max_size < 1):
            raise DetrLiteError(f"an image size of {self.size} pixels is not possible; give a positive number")
        if self.kind == "stretch":
            return
        if self.max_size is not None and (self.kind != "shortest" or self.max_size <= self.size):
            raise DetrLiteError(
                f'max_size {self.max_size} does not fit resize rule "{self.kind}" and size {self.size}; '
                'it is for "shortest" only, and must be larger than the size'
            )

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after resizing, rounded as in torchvision."""
        if self.kind == "stretch":
            return self.size, self.max_size or self.size
        short, long = sorted((height, width))
        if self.kind == "shortest" and self.rounds_shorter:
            return self._rounded_size(height, width)
        if self.kind == "shortest":
            short, long = self.size, int(self.size * long / short)
            if self.max_size is not None and long > self.max_size:
                short, long = int(self.max_size * short / long), self.max_size
        elif self.kind == "fit" or long > self.size:
            short, long = int(self.size * short / long), self.size
        short = max(short, 1)
        return (short, long) if height <= width else (long, short)

    def _rounded_size(self, height: int, width: int) -> tuple[int, int]:
        short, long = sorted((height, width))
        exact: float = self.size
        if self.max_size is not None and long / short * self.size > self.max_size:
            exact = self.max_size * short / long
        new_short = max(1, round(exact))
        # An image whose shorter side has the size already keeps the other one, too.
        new_long = long if new_short == short else int(exact * long / short)
        return (new_short, new_long) if height <= width else (new_long, new_short)

    def to_dict(self) -> dict[str, Any]:
        """Plain types; what only models of transformers need is left out where it has its default."""
        plain = ResizeRule(self.kind, self.size, self.max_size)
        needed = {name for name, value in asdict(self).items() if value != getattr(plain, name)}
        return {name: value for name, value in asdict(self).items() if name in {"kind", "size", "max_size"} | needed}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "ResizeRule":
        """The inverse of `to_dict`; checked, because the values may come from a file."""
        if values.get("kind") not in get_args(ResizeKind):
            known = ", ".join(get_args(ResizeKind))
            raise DetrLiteError(f"resize rule {values.get('kind')!r} is not known; there are: {known}")
        return ResizeRule(**values)


class ResizeByRule(v2.Transform):  # type: ignore[misc]
    """Resize images and boxes by a `ResizeRule`."""

    def __init__(self, rule: ResizeRule) -> None:
        super().__init__()
        self.rule = rule
        self.options = {"interpolation": v2.InterpolationMode(rule.interpolation), "antialias": rule.antialias}

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"size": list(self.rule.target_size(*v2.query_size(flat_inputs)))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not self.rule.antialias and isinstance(inpt, tv_tensors.Image):
            inpt = functional.to_dtype(inpt, torch.float32, scale=True)
        return self._call_kernel(functional.resize, inpt, size=params["size"], **self.options)


class Normalize(v2.Transform):  # type: ignore[misc]
    """uint8 to float32 of mean 0 and standard deviation 1, optionally with random contrast and brightness.

    With a `jitter` above 0, contrast is drawn from 1 ± jitter and brightness from ± jitter / 2 (of white), per image.
    Both are folded into the normalization, so they cost no time, and values are not clipped to black and white.
    """

    _transformed_types = (tv_tensors.Image,)

    def __init__(self, mean: Sequence[float], std: Sequence[float], jitter: float = 0.0) -> None:
        super().__init__()
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
        self.jitter = jitter

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        contrast, brightness = 1.0, 0.0
        if self.jitter > 0:
            contrast = 1 + self.jitter * (2 * torch.rand(()).item() - 1)
            brightness = self.jitter * (torch.rand(()).item() - 0.5)
        return {"gain": contrast / self.std, "offset": (brightness - self.mean) / self.std}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        # Pillow's pixels are channels-last in memory; contiguous channels make the arithmetic five times as fast.
        pixels = functional.to_dtype(inpt.contiguous(), torch.float32, scale=True)
        return tv_tensors.wrap((pixels * params["gain"]).add_(params["offset"]), like=inpt)


def evaluation_transform(resize: ResizeRule, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> v2.Compose:
    """Resize and normalize, without augmentation."""
    return v2.Compose([v2.ToImage(), ResizeByRule(resize), Normalize(mean, std), v2.ToPureTensor()])
