"""The `collate_fn` of data loaders: a list of samples becomes a batch."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from detr_lite.structures import Batch, Target


def collate(samples: Sequence[tuple[Float[Tensor, "3 _ _"], Target]]) -> Batch:
    images, targets = zip(*samples, strict=True)
    return Batch.from_images(images, targets)
