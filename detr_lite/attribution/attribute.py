"""Attribution of some detections of an image, by all methods, with the curves that compare them."""

import zlib
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from detr_lite.attribution.cells import Cells
from detr_lite.attribution.curves import FRACTIONS, altered_images, deletion_and_insertion, occlusion
from detr_lite.attribution.relevance import query_relevance
from detr_lite.attribution.target_scores import TargetScores
from detr_lite.box_ops import MIN_AREA
from detr_lite.data.images.convert import ImageLike, as_image
from detr_lite.detector import Detector, Explained
from detr_lite.evaluation.attribution import (
    ATTENTION,
    BOX,
    OCCLUSION,
    RANDOM,
    RANKINGS,
    RELEVANCE,
    ImageAttribution,
)
from detr_lite.structures import Batch
from detr_lite.weights.onnx_model import OnnxModel


def attribute(
    detector: Detector, image: ImageLike, explained: Explained, queries: Sequence[int], labels: Sequence[int]
) -> ImageAttribution:
    """What some detections of an image depend on.

        explained = detector.explain("photo.jpg")
        best = explained.detections.above(0.5)
        attribution = attribute(detector, "photo.jpg", explained, best.queries.tolist(), best.labels.tolist())

    It takes a forward pass for each of up to 256 cells of the image, 90 more for each detection, and a backward pass
    for each detection.

    Args:
        explained: what `detector.explain` gave for the image, with all layers, heads and queries.
        queries: of the detections.
        labels: of the same detections. Each must have a score above 0 and a box with an area.

    Errors: something that is not an image.
    """
    assert not isinstance(detector.model, OnnxModel)  # of which there is no `Explained`
    model, maps = detector.model, explained.attention
    pixels = detector.transform(as_image(image, detector.orientation)).to(detector.device)
    cells = Cells.of(*pixels.shape[1:])
    boxes_cxcywh = explained.boxes_cxcywh[-1, 0, list(queries)]
    chosen = torch.tensor([*zip(queries, labels, strict=True)], dtype=torch.long).view(-1, 2)
    scores = TargetScores(model, detector.postprocess.scores, boxes_cxcywh, chosen[:, 1])
    whole = scores.of(pixels[None])[0]
    relevance = query_relevance(model, Batch.from_images([pixels]), maps, queries, labels)
    attention = maps.rows_of(torch.zeros_like(chosen[:, 0]), chosen[:, 0])[:, -1].float().mean(1)
    images = altered_images(cells, len(queries), len(RANKINGS))
    # Another order for each image, always the same one: objects of an evaluation must not share their luck.
    random = torch.Generator().manual_seed(zlib.crc32(pixels.cpu().numpy().tobytes()))
    with tqdm(total=images, desc="attribution", unit="image", leave=False, disable=None) as scores.progress:
        occluded = occlusion(scores, cells, pixels, whole)
        orders = {
            ATTENTION: cells.of_tokens(maps, attention),
            RELEVANCE: cells.of_tokens(maps, relevance),
            OCCLUSION: occluded,
            BOX: -distance_to_box(cells, boxes_cxcywh),
            RANDOM: torch.rand(len(queries), cells.count, generator=random),
        }
        deletion, insertion = deletion_and_insertion(scores, cells, pixels, whole, orders)
    return ImageAttribution(
        tuple(queries), tuple(labels), (cells.rows, cells.columns), relevance, occluded, FRACTIONS, deletion, insertion
    )


def attribute_best(
    detector: Detector, image: ImageLike, explained: Explained, count: int, threshold: float
) -> ImageAttribution:
    """`attribute` of the `count` detections of highest score from `threshold` on, and of the best one at least.

    Detections without a score or an area are left out, as nothing can be measured of them.
    """
    areas = explained.boxes_cxcywh[-1, 0, explained.detections.queries, 2:].clamp(min=0).prod(1)
    detections = explained.detections[(explained.detections.scores > 0) & (areas > MIN_AREA)]
    shown = detections.above(threshold) if len(detections.above(threshold)) else detections[:1]
    label_of: dict[int, int] = {}  # of a query that is detected as several classes the best
    for query, label in zip(shown.queries.tolist(), shown.labels.tolist(), strict=True):
        label_of.setdefault(query, label)
    chosen = list(label_of.items())[:count]
    return attribute(detector, image, explained, [query for query, _ in chosen], [label for _, label in chosen])


def distance_to_box(cells: Cells, boxes_cxcywh: Float[Tensor, "object 4"]) -> Float[Tensor, "object cell"]:
    """Of each cell's center from the box's, where 1 is the box's edge."""
    corners = cells.boxes_xyxy()
    centers = (corners[:, :2] + corners[:, 2:]) / 2
    box = boxes_cxcywh[:, None]
    return (2 * (centers - box[..., :2]).abs() / box[..., 2:].clamp(min=1e-6)).amax(-1)
