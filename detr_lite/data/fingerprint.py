"""A short text by which two readings of a split are known to be of the same data."""

import hashlib
import os

from detr_lite.data.records import Split


def fingerprint(split: Split) -> str:
    """The number of images and objects and a hash of names, sizes and annotations, without the pixels."""
    digest = hashlib.sha256()
    images = split.images
    names = "\n".join(path.rpartition(os.sep)[2] for path in images.paths)
    for part in (images.sizes_wh, images.ends, images.boxes_xyxy, images.labels):
        digest.update(part.tobytes())
    digest.update(names.encode(errors="surrogateescape"))
    return f"{len(images):,} images with {len(images.labels):,} objects, hash {digest.hexdigest()[:8]}"
