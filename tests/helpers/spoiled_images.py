"""Images that break after a dataset has been checked."""

import os
from pathlib import Path

from detr_lite.data.reading import read_dataset


def spoil_after_the_check(image: Path) -> None:
    """Damage an image in a dataset that has been checked, in a way that its size and time do not show.

    Of a PNG file hardly more than the header is left.
    """
    read_dataset(image.parents[1])
    status = image.stat()
    image.write_bytes(image.read_bytes()[:45].ljust(status.st_size, b"\0"))
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
