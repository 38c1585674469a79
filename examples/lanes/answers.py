"""A trained network's answers: the lanes in pictures, and the attention of their queries."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image

from detr_lite.structures import AttentionMaps
from detr_lite.training.task import load_network
from detr_lite.weights.checkpoint_path import find_checkpoint
from examples.lanes.attention import attention_panels, draw_lanes
from examples.lanes.data import POINTS, RoadSample, collate, load_picture
from examples.lanes.evaluation import FoundLanes
from examples.lanes.metrics import Lane
from examples.lanes.model import LaneNet, build_network

GAP = 8
"""Pixels between the panels of a drawing."""


@dataclass(frozen=True)
class Answer:
    """What the network makes of one picture."""

    picture: Image.Image
    """The part of it that the network sees."""
    size: tuple[int, int]
    """(width, height) of the whole."""
    found: FoundLanes
    maps: AttentionMaps
    """Of a batch of one."""

    def lanes(self) -> list[tuple[int, Lane]]:
        """The query and the lane of each one that was found, as `FoundLanes.seen_lane`."""
        lanes = [(query, self.found.seen_lane(query)) for query in self.found.queries()]
        return [(query, lane) for query, lane in lanes if np.isfinite(lane).sum() >= 2]


def load_lane_net(checkpoint: Path) -> LaneNet:
    """Args:
    checkpoint: or a run folder, whose best one is meant.
    """
    return cast(LaneNet, load_network(find_checkpoint(checkpoint), "lanes", build_network)[0])


def answers(network: LaneNet, paths: Iterable[Path]) -> Iterator[Answer]:
    """One after the other, each with its attention."""
    none = np.zeros((0, POINTS), np.float32), np.zeros((0, POINTS), bool)
    for path in paths:
        image, size = load_picture(path)
        with torch.inference_mode():
            output = network(collate([RoadSample(image, *none)]), need_attention=True)
        assert output.attention is not None
        yield Answer(Image.fromarray(image), size, FoundLanes.of(output)[0], output.attention)


def draw(answer: Answer) -> Image.Image:
    """The lanes in the picture, and beside and below it where the query of each one looks."""
    lanes = answer.lanes()
    first = draw_lanes(answer.picture, [lane for _, lane in lanes])
    panels = [first, *attention_panels(answer.picture, lanes, answer.maps)]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    width, height = first.width + GAP, first.height + GAP
    sheet = Image.new("RGB", (columns * width - GAP, rows * height - GAP), (255, 255, 255))
    for number, panel in enumerate(panels):
        sheet.paste(panel, (number % columns * width, number // columns * height))
    return sheet
