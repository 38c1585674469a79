"""Captions for the explorer: words as the queries of a sentence over its picture."""

from collections.abc import Sequence

import torch
from PIL import Image

from detr_lite.structures import AttentionMaps, Detections
from detr_lite.viz.explorer.other_tasks import pack_words
from detr_lite.viz.explorer.scene import PackedScene
from examples.captions.scenes import Captioned
from examples.captions.wording import END, VOCABULARY, parse, text_of

START = "<start>"


def pack_caption(
    name: str, picture: Image.Image, words: Sequence[str], maps: AttentionMaps, scene: Captioned | None = None
) -> PackedScene:
    """
    Args:
        maps: of a batch of one; query i chose word i, and the last one the end.
        scene: what was drawn, whose objects are shown, too.
    """
    inputs = (START, *words)
    truth = None if scene is None else _objects(scene)
    return pack_words(name, (*words, VOCABULARY[END]), maps, image=picture, truth=truth, inputs=inputs)


def _objects(scene: Captioned) -> Detections:
    """Each under a name of its own, such as "large red star"."""
    things = parse(text_of(scene.words)).things
    count = len(things)
    return Detections(
        boxes_xyxy=torch.tensor(scene.boxes, dtype=torch.float32).view(-1, 4),
        scores=torch.ones(count),
        labels=torch.arange(count),
        queries=torch.zeros(count, dtype=torch.int64),
        class_names=tuple(f"{thing.size} {thing.color} {thing.shape}" for thing in things),
    )
