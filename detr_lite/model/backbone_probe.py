"""What a timm network requires of its input, and the format of its maps, found out with a small image."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from detr_lite.structures import DetrLiteError
from detr_lite.text import reason_of


@dataclass(frozen=True)
class InputSpec:
    """What a network requires of its input, and the format of its maps."""

    multiple: int
    """Sides of images must be multiples of it."""
    returns_channels_last: bool
    channels: tuple[int, ...]


def probe(name: str, network: nn.Module, strides: Sequence[int], coarsest: int) -> InputSpec:
    """Find out with a small image, whose sides are no multiples of the strides, what timm does not document.

    Some networks need whole patches, some drop pixels of partial ones, some return channels last, and some accept one
    image size only.

    Errors: maps without a token for every `stride` pixels, even for an image padded to a multiple of `coarsest`.
    """
    reason = ""
    for multiple in (1, coarsest):
        image = pad_to_multiple(torch.zeros(1, 3, 2 * coarsest + 1, 4 * coarsest - 1), multiple)
        grids = [tuple(ceil(side / stride) for side in image.shape[2:]) for stride in strides]
        try:
            shapes = _shapes(network, image)
        except Exception as error:  # the type depends on the network
            reason = reason_of(error)
            continue
        if [shape[1:] for shape in shapes] == grids:
            return InputSpec(multiple, False, tuple(shape[0] for shape in shapes))
        if [shape[:2] for shape in shapes] == grids:
            return InputSpec(multiple, True, tuple(shape[2] for shape in shapes))
        reason = "its maps do not have the expected size"
    raise DetrLiteError(f"model.backbone: {name} does not accept images of every size ({reason}); choose another")


@torch.no_grad()
def _shapes(network: nn.Module, image: Float[Tensor, "1 3 height width"]) -> list[tuple[int, ...]]:
    was_training = network.training
    network.eval()  # so that batch norm does not update its statistics
    try:
        return [tuple(features.shape[1:]) for features in network(image)]
    finally:
        network.train(was_training)


def pad_to_multiple(images: Float[Tensor, "batch 3 height width"], multiple: int) -> Tensor:
    """Pad with zeros at the right and bottom to multiples of `multiple`."""
    height, width = images.shape[-2:]
    missing = (-height % multiple, -width % multiple)
    # An exported graph has sizes for names, so that nothing can be decided by them.
    if multiple == 1 or not (torch.compiler.is_exporting() or any(missing)):
        return images
    return F.pad(images, (0, missing[1], 0, missing[0]))
