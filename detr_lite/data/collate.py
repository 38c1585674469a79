"""The `collate_fn` of data loaders: a list of samples becomes a batch."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from detr_lite.structures import Batch, Target


def collate(samples: Sequence[tuple[Float[Tensor, "3 _ _"], Target]]) -> Batch:
    """Pad normalized images (3 height width) of any sizes to the largest height and width among them."""
    images, targets = zip(*samples, strict=True)
    return Batch.from_images(images, targets)


def pad_to_multiple(batch: Batch, multiple: int) -> Batch:
    """Pad images at the right and bottom until their sides are multiples of so many pixels."""
    height, width = batch.images.shape[-2:]
    extra = (0, -width % multiple, 0, -height % multiple)
    return Batch(F.pad(batch.images, extra), F.pad(batch.is_padding, extra, value=True), batch.targets)
