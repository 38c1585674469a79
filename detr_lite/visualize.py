"""Where the queries of a user's own images look: a figure for each image."""

import functools
from collections.abc import Sequence
from pathlib import Path

from detr_lite.data.annotations import listed
from detr_lite.data.results import check_output, drawing_names, refuse_links_out, write_whole
from detr_lite.data.sources import ImageFile, find_images, read_batches, refuse_unreadable
from detr_lite.detector import Detector, check_threshold
from detr_lite.messages import printable
from detr_lite.structures import DetrLiteError
from detr_lite.viz.attention import Heads, attention_figure

GUESSES = 3
"""So many are shown of an image in which nothing reaches the threshold."""

DPI, MOST_PIXELS = 120, 60_000
"""Of a figure, and of its height: matplotlib draws no more than 65,535."""


def visualize(
    checkpoint: Path,
    source: Sequence[str],
    output: Path,
    layer: str = "last",
    heads: str = "all",
    threshold: float = 0.5,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Write a PNG for each image: its detections with the cross-attention of their queries.

    Args:
        source: files, folders and patterns, as in `find_images`.
        output: folder; the figures lie in it as the images lie in their source.
        layer: of the decoder, "last" or a number, counted from 0.
        heads: "all" (and their mean), "mean", or numbers with commas between, counted from 0.

    Errors: a wrong argument, before anything is written; images that cannot be read, when all others are done.
    """
    check_threshold(threshold)
    layer_number, chosen_heads = read_layer(layer), read_heads(heads)
    images = find_images(source, output)
    check_output(output, overwrite)
    names = drawing_names([file.name for file in images], keep=(".png",))
    refuse_links_out(output, {(output / name).parent for name in names})
    detector = Detector.from_checkpoint(checkpoint, device)

    figure_of = dict(zip(images, names, strict=True))
    unreadable: list[ImageFile] = []
    guessed: list[ImageFile] = []
    for ((file, image),) in read_batches(images, 1, unreadable, "drawing"):
        explained = detector.explain(image)
        found, most, note = explained.detections.above(threshold), None, ""
        if len(found) == 0:
            guessed.append(file)
            found, most, note = explained.detections, GUESSES, f"best guesses: no score reaches {threshold:g}"
        figure = attention_figure(
            image, found, explained.attention, most=most, layer=layer_number, heads=chosen_heads, note=note
        )
        dpi = min(DPI, MOST_PIXELS / figure.get_figheight())
        write_whole(output / figure_of[file], functools.partial(figure.savefig, format="png", dpi=dpi))
    done = len(images) - len(unreadable)
    if guessed:
        which = listed([file.path for file in guessed], most=3)
        print(f"note       no score reaches {threshold:g} in {len(guessed):,} of {done:,} images ({printable(which)}):")
        print("           there the best guesses are shown")
    if done:
        print(f"written    {done:,} figure{'s' if done != 1 else ''} to {output}")
    refuse_unreadable(unreadable, len(images), output)


def read_layer(layer: str) -> int | None:
    """None is the last."""
    if layer == "last":
        return None
    if not layer.isdecimal():
        raise DetrLiteError(f'--layer is {layer!r}; it must be "last" or a number, counted from 0')
    return int(layer)


def read_heads(heads: str) -> Heads:
    """ "all", "mean" or numbers, each once."""
    if heads == "all":
        return "all"
    if heads == "mean":
        return "mean"
    numbers = heads.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise DetrLiteError(f'--heads is {heads!r}; it must be "all", "mean" or numbers such as 0,3, counted from 0')
    return list(dict.fromkeys(map(int, numbers)))
