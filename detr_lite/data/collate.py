"""The `collate_fn` of data loaders: a list of samples becomes a batch."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from detr_lite.structures import Batch, Target


def collate(samples: Sequence[tuple[Float[Tensor, "3 _ _"], Target]]) -> Batch:
    """Pad normalized images (3 height width) of any sizes to the largest height and width among them."""
    images, targets = zip(*samples, strict=True)
    return Batch.from_images(images, targets)
