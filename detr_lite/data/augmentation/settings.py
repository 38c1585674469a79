"""What is done to training images: each part by itself, and the presets."""

from dataclasses import dataclass, replace
from typing import Literal

Preset = Literal["light", "photographs", "detr", "none"]

EXPOSURE = 0.2
"""Of "light"."""


@dataclass(frozen=True)
class Augmentation:
    """The parts of an augmentation. Probabilities are per image; 0 leaves a part out."""

    geometry: Literal["resize", "detr"] = "resize"
    """resize: as in evaluation, with `scale_jitter` and `zoom_out`. detr: scales and crops of the original DETR."""
    horizontal_flip: float = 0.0
    """Probability."""
    vertical_flip: float = 0.0
    """Probability."""
    scale_jitter: float = 0.0
    """The image is scaled by a factor from 1 / (1 + this) to 1 + this, and cropped to its size in evaluation."""
    zoom_out: float = 0.0
    """Probability that it is scaled down, and padded to its size in evaluation."""
    exposure_jitter: float = 0.0
    """Contrast is drawn from 1 ± this and brightness from ± half of it, as a part of normalization (`Normalize`)."""
    color_jitter: float = 0.0
    """Strength of changes in brightness, contrast, saturation and hue (`JitterColors`), in place of the former."""
    blur: float = 0.0
    """Probability of Gaussian blur."""
    jpeg: float = 0.0
    """Probability of JPEG compression."""
    mosaic: float = 0.0
    """Probability that four images are put together."""
    mixup: float = 0.0
    """Probability that two images are laid over each other."""
    copy_paste: float = 0.0
    """Probability that objects of another image are pasted."""
    stop: float = 0.85
    """Completed fraction of the run after which `late` is what is done; 1 for never."""

    def late(self) -> "Augmentation":
        """What is left for the last part of a run: flips, and the contrast and brightness of "light"."""
        exposure = EXPOSURE if self.exposure_jitter or self.color_jitter else 0.0
        return Augmentation(
            horizontal_flip=self.horizontal_flip, vertical_flip=self.vertical_flip, exposure_jitter=exposure
        )


FLIP = Augmentation(horizontal_flip=0.5)

PRESETS: dict[Preset, Augmentation] = {
    "none": Augmentation(),
    "light": replace(FLIP, exposure_jitter=EXPOSURE),
    "photographs": replace(FLIP, scale_jitter=0.5, zoom_out=0.15, color_jitter=0.2, blur=0.05, jpeg=0.1),
    "detr": replace(FLIP, geometry="detr", stop=1.0),
}
"""none: as in evaluation. light: flips, contrast and brightness. photographs: scales, crops, colors and faults of
cameras. detr: flips, scales and crops of the original DETR (arXiv 2005.12872, appendix A.4)."""
