"""Pictures of what a model does on validation images: truth beside prediction, and where its queries look."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.data.coco import CocoDetection
from detr_lite.data.collate import collate
from detr_lite.data.images import load_image
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.structures import AttentionSelection, Detections, Target
from detr_lite.viz.draw import samples_sheet
from detr_lite.viz.figures.attention import attention_figure


@torch.inference_mode()
def draw_pictures(
    model: nn.Module, postprocess: Postprocess, images: CocoDetection, folder: Path, threshold: float, count: int = 8
) -> None:
    """Write `samples.png` (images spread over the data set) and `attention.png` (the first of them with detections).

    A model that finds nothing yet is shown with its best guesses: where it looks may say why.
    """
    records = images.images
    require = [index * len(records) // count for index in range(min(count, len(records)))]
    items, figure, is_sure = [], None, False
    for index in require:
        batch = collate([images[index]])
        assert batch.targets is not None
        output = model.eval()(batch, need_attention=AttentionSelection(encoder_layers=()))
        (found,) = postprocess(output, [batch.targets[0].original_size])
        picture = load_image(records[index].path, (records[index].height, records[index].width))
        items.append((picture, _truth(batch.targets[0], postprocess.class_names), found))
        sure = found.above(threshold)
        if figure is None or (len(sure) and not is_sure):
            figure, is_sure = attention_figure(picture, sure if len(sure) else found, output.attention), len(sure) > 0
    samples_sheet(items, threshold).save(folder / "samples.png")
    assert figure is not None, "a split has at least one image"
    figure.savefig(folder / "attention.png", dpi=150)


def _truth(target: Target, class_names: Sequence[str]) -> Detections:
    height, width = target.original_size
    return Detections(
        boxes_xyxy=cxcywh_to_xyxy(target.boxes_cxcywh) * torch.tensor([width, height, width, height]),
        scores=torch.ones(len(target.labels)),
        labels=target.labels,
        queries=torch.zeros_like(target.labels),
        class_names=tuple(class_names),
    )
