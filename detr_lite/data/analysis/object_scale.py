"""How large objects are for the model: in tokens of its feature map, after images have been resized."""

import numpy as np
from jaxtyping import Float64

from detr_lite.data.records import ImageRecords
from detr_lite.data.transforms import ResizeRule


def object_tokens(images: ImageRecords, resize: ResizeRule, stride: int) -> Float64[np.ndarray, " object"]:
    """Square root of each object's area in tokens; below 1 the object is smaller than one token.

    Args:
        stride: pixels of the resized image that a token spans in each direction.
    """
    sizes, which = np.unique(images.sizes_wh, axis=0, return_inverse=True)
    targets = [resize.target_size(height, width)[::-1] for width, height in sizes.tolist()]
    scales = (np.array(targets, dtype=np.float64).reshape(-1, 2) / sizes)[which.reshape(-1)]
    boxes_wh = (images.boxes_xyxy[:, 2:] - images.boxes_xyxy[:, :2]) * np.repeat(scales, images.counts, axis=0)
    tokens: Float64[np.ndarray, " object"] = np.sqrt(boxes_wh.prod(axis=1)) / stride
    return tokens
