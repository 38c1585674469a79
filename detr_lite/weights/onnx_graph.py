"""A model as an ONNX graph: uint8 RGB in, boxes in pixels, scores and labels out."""

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import jaxtyping
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.build import build_postprocess
from detr_lite.data.transforms import ResizeRule
from detr_lite.families.exporting import exportable
from detr_lite.families.network import FamilyDetr
from detr_lite.model.detr import Detr
from detr_lite.structures import Batch, DetrLiteError
from detr_lite.text import reason_of
from detr_lite.weights.checkpoint import Description, activation_of

OPSET = 20
"""The newest that onnxruntime's quantization knows; onnxruntime 1.17 and later run it."""

LEAST_SIDE = 32
"""Images have at least so many pixels on each side."""


class OnnxGraph(nn.Module):
    """What is exported: normalization, model and the selection of detections, all within the graph.

    Args:
        is_float: the input is float32 from 0 to 255, for models whose resize rule does not round pixels.
    """

    gain: Tensor
    offset: Tensor

    def __init__(self, model: Detr | FamilyDetr, description: Description, is_float: bool) -> None:
        super().__init__()
        self.model = model
        self.postprocess = build_postprocess(
            description.config.model,
            [category.name for category in description.categories],
            activation_of(description),
        )
        self.is_float = is_float
        mean, std = torch.tensor(description.mean), torch.tensor(description.std)
        self.register_buffer("gain", (1 / std)[:, None, None])
        self.register_buffer("offset", (-mean / std)[:, None, None])

    def forward(
        self, images: Tensor
    ) -> tuple[Float[Tensor, "batch detection 4"], Float[Tensor, "batch detection"], Int[Tensor, "batch detection"]]:
        """Boxes (x1, y1, x2, y2) in pixels of the input, scores and labels, in descending order of scores.

        Args:
            images: (batch height width 3) RGB.
        """
        batch, height, width, _ = images.shape
        pixels = images.permute(0, 3, 1, 2).float() * (1 / 255) * self.gain + self.offset
        is_padding = torch.zeros(batch, height, width, dtype=torch.bool, device=images.device)
        logits, boxes_cxcywh = self._last_layer(Batch(pixels, is_padding))
        scores, labels, queries = self._best(logits)
        boxes_xyxy = cxcywh_to_xyxy(boxes_cxcywh.gather(1, queries[..., None].expand(-1, -1, 4)))
        # Clamped to the image as fractions: products of symbolic sizes do not export as bounds.
        corners = boxes_xyxy.clamp(min=0.0, max=1.0)
        x, y = corners[..., 0::2] * width, corners[..., 1::2] * height
        return torch.stack([x, y], dim=-1).flatten(2), scores, labels

    def _best(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, labels and queries of the detections; onnxruntime's TopK ranks equal scores by place, too."""
        limit = self.postprocess.max_detections
        if self.postprocess.activation == "softmax":
            scores, labels = logits.softmax(dim=-1)[..., :-1].max(dim=-1)
            scores, queries = scores.topk(torch.sym_min(limit, scores.shape[1]), dim=1)
            return scores, labels.gather(1, queries), queries
        classes = logits.shape[-1]
        scores = logits.sigmoid().flatten(1)
        scores, places = scores.topk(torch.sym_min(limit, scores.shape[1]), dim=1)
        return scores, places % classes, places // classes

    def _last_layer(self, batch: Batch) -> tuple[Float[Tensor, "batch query class"], Float[Tensor, "batch query 4"]]:
        if isinstance(self.model, FamilyDetr):
            return self.model.last_layer(batch)
        output = self.model(batch)
        return output.logits[-1], output.boxes_cxcywh[-1]


def export_graph(graph: OnnxGraph, fixed: tuple[int, int] | None) -> Any:
    """The graph as an onnx.ModelProto, for images of every size or of a fixed (height, width).

    Errors: a package of the extra is missing, and a model that torch does not export.
    """
    try:
        return _export(graph, fixed)
    except DetrLiteError:
        raise
    except Exception as error:  # torch's exporter has no common type of error
        raise DetrLiteError(f"torch cannot export this model as ONNX: {reason_of(_first_cause(error))}") from error


def takes_floats(resize: ResizeRule) -> bool:
    """Whether pixels are not rounded after resizing."""
    return not resize.antialias and resize.interpolation != "nearest"


def fixed_size(resize: ResizeRule) -> tuple[int, int] | None:
    """The (height, width) that every image gets by a rule, if it is always the same."""
    return resize.target_size(1, 1) if resize.kind == "stretch" else None


def example_size(resize: ResizeRule, height: int, width: int) -> tuple[int, int]:
    """What an image of this shape is resized to, at least `LEAST_SIDE`."""
    scale = max(1.0, resize.size / min(height, width))  # large enough to be scaled down, as photographs are
    new_height, new_width = resize.target_size(round(scale * height), round(scale * width))
    return max(LEAST_SIDE, new_height), max(LEAST_SIDE, new_width)


def _export(graph: OnnxGraph, fixed: tuple[int, int] | None) -> Any:
    require_onnx()
    height, width = fixed or (160, 224)
    images = torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8)
    example = images.float() if graph.is_float else images
    shapes = {0: torch.export.Dim("batch", min=1)}
    if fixed is None:
        shapes |= {1: torch.export.Dim("height", min=LEAST_SIDE), 2: torch.export.Dim("width", min=LEAST_SIDE)}
    family = exportable(graph.model.network) if isinstance(graph.model, FamilyDetr) else nullcontext()
    with quiet(), _without_shape_checks(), family, torch.no_grad():
        proto = _to_onnx(graph, example, shapes, optimize=True)
        if not _is_valid(proto):  # onnxscript's optimizer loses a node of Deformable DETR
            proto = _to_onnx(graph, example, shapes, optimize=False)
    # Of each node the exporter notes the line of code that made it, with the paths of this machine.
    for each in (*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del each.metadata_props[:]
    return proto


def _to_onnx(graph: OnnxGraph, example: Tensor, shapes: dict[int, Any], optimize: bool) -> Any:
    """An onnx.ModelProto.

    Args:
        shapes: names of the axes of `example` whose size may differ.
    """
    program = torch.onnx.export(
        graph,
        (example,),
        dynamo=True,
        dynamic_shapes=(shapes,),
        input_names=["images"],
        output_names=["boxes", "scores", "labels"],
        opset_version=OPSET,
        verbose=False,
        optimize=optimize,
    )
    assert program is not None
    return program.model_proto


def _is_valid(proto: Any) -> bool:
    import onnx

    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError:
        return False
    return True


def _first_cause(error: BaseException) -> BaseException:
    """The exception that the exporter's own ones are about."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@contextmanager
def _without_shape_checks() -> Iterator[None]:
    """Where shapes are checked at run time, a comparison would fix the symbolic size that it is made with."""
    was_disabled = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", was_disabled)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and log lines of exporters and quantizers, none of which the user can act on."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(level)


def require_onnx() -> None:
    """Errors: a package of the extra `onnx` is not installed."""
    _require("onnx", "onnxscript", "onnxruntime")


def require_onnx_runtime() -> None:
    """Errors: onnxruntime is not installed."""
    _require("onnxruntime")


def _require(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise DetrLiteError(
                f"{package} is not installed; install it with: pip install 'detr_lite[onnx]', or in a checkout with: "
                "pip install -e '.[onnx]'"
            )
