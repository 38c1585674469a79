"""Sample pictures of a run: ground truth beside predictions, and the attention of the queries."""

import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.data.collate import collate
from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.images.load import load_image
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.io import atomic_write
from detr_lite.structures import AttentionSelection, Detections, Target
from detr_lite.viz.figures.attention import attention_figure
from detr_lite.viz.guesses import detections_or_guesses
from detr_lite.viz.sheet import samples_sheet


@torch.inference_mode()
def draw_pictures(
    model: nn.Module, postprocess: Postprocess, images: DetectionDataset, folder: Path, threshold: float, count: int = 8
) -> None:
    """Write `samples.png` (images evenly spaced in the dataset) and `attention.png` (the first one with detections).

    If no score reaches the threshold, `attention.png` shows the best guesses and calls them so: where the queries look
    may explain why.
    """
    records = images.images
    items, figure, has_detections = [], None, False
    for index in [number * len(records) // count for number in range(min(count, len(records)))]:
        batch = collate([images[index]])
        assert batch.targets is not None
        output = model.eval()(batch, need_attention=AttentionSelection(encoder_layers=(), samples_only=True))
        (predictions,) = postprocess(output, [batch.targets[0].original_size])
        picture = load_image(records[index].path, batch.targets[0].original_size, images.orientation)
        items.append((picture, _ground_truth(batch.targets[0], postprocess.class_names), predictions))
        shown = detections_or_guesses(predictions, threshold)
        if figure is None or (shown.below is None and len(shown.detections) and not has_detections):
            has_detections = shown.below is None and len(shown.detections) > 0
            figure = attention_figure(picture, shown.detections, output.attention, below=shown.below)
    sheet = samples_sheet(items, threshold)
    atomic_write(folder / "samples.png", lambda file: sheet.save(file, "PNG"), durable=False)
    assert figure is not None, "a split has at least one image"
    save = functools.partial(figure.savefig, format="png", dpi=150)
    atomic_write(folder / "attention.png", save, durable=False)


def _ground_truth(target: Target, class_names: Sequence[str]) -> Detections:
    height, width = target.original_size
    return Detections(
        boxes_xyxy=cxcywh_to_xyxy(target.boxes_cxcywh) * torch.tensor([width, height, width, height]),
        scores=torch.ones(len(target.labels)),
        labels=target.labels,
        queries=torch.zeros_like(target.labels),
        class_names=tuple(class_names),
    )
