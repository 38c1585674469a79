"""An exported ONNX model in the place of a torch model, for evaluation and prediction."""

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from detr_lite.evaluation.postprocess import Activation
from detr_lite.structures import AttentionSelection, Batch, DetrLiteError, DetrOutput
from detr_lite.text import command_line, reason_of
from detr_lite.weights.checkpoint import Description
from detr_lite.weights.onnx_export import FORMAT
from detr_lite.weights.onnx_graph import require_onnx_runtime


class OnnxModel(nn.Module):
    """Batches of pixels from 0 to 255 in; each detection comes out as a query that is one class or none.

    Images are run one by one without their padding, which the graph does not know.
    """

    activation: Activation = "softmax"
    """Whatever that of the original model is: with it each query gives one detection."""

    def __init__(self, detector: Any, classes: int) -> None:
        super().__init__()
        self.detector = detector
        self.classes = classes
        self.is_float = detector.metadata["input"]["dtype"] != "uint8"

    def forward(self, batch: Batch, need_attention: bool | AttentionSelection = False) -> DetrOutput:
        if need_attention:
            raise DetrLiteError("an ONNX model does not give its attention; use the checkpoint that it was made from")
        outputs = [
            self._run(image[:, : int((~padding[:, 0]).sum()), : int((~padding[0]).sum())])
            for image, padding in zip(batch.images.cpu(), batch.is_padding.cpu(), strict=True)
        ]
        logits, boxes = (torch.stack(each)[None] for each in zip(*outputs, strict=True))
        return DetrOutput(logits.to(batch.images.device), boxes.to(batch.images.device))

    def _run(
        self, image: Float[Tensor, "3 height width"]
    ) -> tuple[Float[Tensor, "detection class"], Float[Tensor, "detection 4"]]:
        pixels = image.permute(1, 2, 0)[None].contiguous()
        array = (pixels if self.is_float else pixels.round().to(torch.uint8)).numpy()
        try:
            found = self.detector.run(array)
        except Exception as error:  # onnxruntime's own exceptions have no common type
            raise DetrLiteError(f"onnxruntime: {reason_of(error)}") from error
        boxes_xyxy, scores, labels = (torch.from_numpy(each[0]) for each in found)
        size = torch.tensor([image.shape[2], image.shape[1]])
        low, high = boxes_xyxy[:, :2] / size, boxes_xyxy[:, 2:] / size
        return self._logits(scores, labels), torch.cat([(low + high) / 2, high - low], dim=-1)

    def _logits(self, scores: Tensor, labels: Tensor) -> Float[Tensor, "detection class"]:
        """Those whose softmax are the scores, "no object" last."""
        logits = torch.full((len(scores), self.classes + 1), -torch.inf)
        logits[torch.arange(len(scores)), labels] = scores.log()
        logits[:, -1] = (1 - scores).log()
        return logits


def load_onnx(path: Path) -> tuple[OnnxModel, Description]:
    """An exported model, and its description, by which pixels reach it as they are: from 0 to 255.

    Errors: onnxruntime is not installed, and a file that is not such a model.
    """
    require_onnx_runtime()
    from detr_lite.runtime import OnnxDetector

    try:
        detector = OnnxDetector(path)
        version = detector.metadata["format"]
        if version != FORMAT:
            raise DetrLiteError(
                f"{path}: format {version} of the metadata, but this version of detr_lite reads {FORMAT}; export the "
                f"model again with {command_line('export')}"
            )
        description = Description.from_dict(
            {**detector.metadata["description"], "mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
        )
    except (AttributeError, KeyError, OSError, TypeError, ValueError, json.JSONDecodeError) as error:
        raise DetrLiteError(str(error) if str(path) in str(error) else f"{path}: {reason_of(error)}") from error
    return OnnxModel(detector, len(description.categories)).eval(), description
