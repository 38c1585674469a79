"""The folder of an exported model: model.onnx, model.json and detect.py, checked before it is written."""

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detr_lite.data.transforms import ResizeRule
from detr_lite.families.network import FamilyDetr
from detr_lite.io import atomic_write
from detr_lite.model.detr import Detr
from detr_lite.structures import DetrLiteError
from detr_lite.text import reason_of
from detr_lite.weights.checkpoint import Description
from detr_lite.weights.checkpoint_path import ONNX_MODEL
from detr_lite.weights.onnx_graph import OnnxGraph, example_size, export_graph, fixed_size, takes_floats

MODEL, METADATA, SCRIPT = ONNX_MODEL, "model.json", "detect.py"
METADATA_KEY = "detr_lite"
"""Of the model's metadata, as detect.py reads them."""
FORMAT = 1
"""Of the metadata; increased when older versions would misread newer files."""
TOLERANCE = 1e-3
"""Largest accepted difference of scores, and of boxes as a share of the image's side."""


@dataclass(frozen=True)
class Difference:
    """How far onnxruntime's answers are from torch's for images of one size."""

    batch: int
    height: int
    width: int
    scores: float
    boxes: float
    """In pixels."""

    def __str__(self) -> str:
        size = f"{self.batch} x {self.width} x {self.height}"
        return f"{size}: scores {self.scores:.1g}, boxes {self.boxes:.1g} pixels"


def write_onnx(
    folder: Path, model: Detr | FamilyDetr, description: Description, made_by: str = "detr_lite"
) -> list[str]:
    """Export, compare with torch, and write the three files of the folder. Returns lines on the result.

    Args:
        made_by: the program and its version, for the metadata.

    Errors: a model that cannot be exported, and one whose graph gives other answers than torch.
    """
    if not description.resize.antialias and description.resize.interpolation == "bicubic":
        raise DetrLiteError("images are resized by bicubic interpolation without antialiasing, which detect.py lacks")
    graph = OnnxGraph(model.eval(), description, takes_floats(description.resize)).eval()
    fixed = _only_size(model, description.resize)
    content, metadata, differences = _checked(graph, description, made_by, fixed)
    write_folder(folder, content, metadata)
    sizes = f"only {fixed[1]} x {fixed[0]} pixels (width x height)" if fixed else "any size"
    worst = max(differences, key=lambda each: max(each.scores, each.boxes / max(each.height, each.width)))
    return [
        f"input: uint8 RGB images, any number, {sizes}"
        if not graph.is_float
        else f"input: float32 RGB images, {sizes}",
        *(f"onnxruntime beside torch, {difference}" for difference in differences),
        f"largest difference: scores {worst.scores:.1g}, boxes {worst.boxes:.1g} pixels",
    ]


def _only_size(model: Detr | FamilyDetr, resize: ResizeRule) -> tuple[int, int] | None:
    """The (height, width) of all images of a model that torch exports for one size only; None for any size.

    Errors: such a model whose images differ in size.
    """
    if not isinstance(model, FamilyDetr) or not model.family.is_deformable:
        return None
    size = fixed_size(resize)  # the code of transformers takes the sizes of feature maps as numbers
    if size is None:
        raise DetrLiteError(
            f"torch exports {model.family.title} for images of one size only, and this model's differ: they are "
            "resized with their aspect ratio; fine-tune it with --data.resize stretch; nothing was written"
        )
    return size


def _checked(
    graph: OnnxGraph, description: Description, made_by: str, fixed: tuple[int, int] | None
) -> tuple[bytes, dict[str, Any], list[Difference]]:
    """The model's bytes, its metadata, and how far it is from torch."""
    proto = export_graph(graph, fixed)
    metadata = {**make_metadata(description, graph, fixed), "made_by": made_by}
    set_metadata(proto, metadata)
    content = proto.SerializeToString()
    return content, metadata, compare(content, graph, check_sizes(description.resize, fixed))


def write_folder(folder: Path, content: bytes, metadata: dict[str, Any]) -> None:
    """Write model.onnx, model.json, and detect.py, which runs the model without detr_lite."""
    from detr_lite.runtime import detect  # needs onnxruntime, which is an extra

    atomic_write(folder / MODEL, lambda file: file.write(content))
    text = json.dumps(metadata, indent=2) + "\n"
    atomic_write(folder / METADATA, lambda file: file.write(text.encode()))
    source = inspect.getsource(detect)
    atomic_write(folder / SCRIPT, lambda file: file.write(source.encode()))


def make_metadata(description: Description, graph: OnnxGraph, fixed: tuple[int, int] | None) -> dict[str, Any]:
    """What a program must know to use the model."""
    thresholds = description.thresholds
    return {
        "format": FORMAT,
        "input": {
            "name": "images",
            "layout": "batch, height, width, RGB",
            "dtype": "float32 from 0 to 255" if graph.is_float else "uint8",
            "height_width": None if fixed is None else list(fixed),
        },
        "outputs": {
            "boxes": "batch, detection, (left, top, right, bottom) in pixels of the input",
            "scores": "batch, detection; descending, 0 to 1",
            "labels": "batch, detection; places in classes",
        },
        "resize": description.resize.to_dict(),
        "orientation": description.config.data.orientation or "upright",
        "classes": [{"id": category.id, "name": category.name} for category in description.categories],
        "thresholds": None if thresholds is None else thresholds.to_dict(),
        "precision": "float32",
        "description": description.to_dict(),
    }


def set_metadata(proto: Any, metadata: dict[str, Any]) -> None:
    """Put the metadata into an onnx.ModelProto."""
    import onnx

    onnx.helper.set_model_props(proto, {METADATA_KEY: json.dumps(metadata)})


def check_sizes(resize: ResizeRule, fixed: tuple[int, int] | None) -> list[tuple[int, int, int]]:
    """Three times (batch, height, width), of shapes that photographs have."""
    if fixed is not None:
        return [(batch, *fixed) for batch in (1, 2, 3)]
    return [(1, *example_size(resize, 3, 4)), (2, *example_size(resize, 16, 9)), (3, *example_size(resize, 1, 1))]


def compare(content: bytes, graph: OnnxGraph, sizes: Sequence[tuple[int, int, int]]) -> list[Difference]:
    """The graph in onnxruntime beside torch, on images of these (batch, height, width).

    Errors: a difference above `TOLERANCE`.
    """
    import onnxruntime

    differences, session = [], None
    for number, (batch, height, width) in enumerate(sizes):
        images = _smooth_images(number, batch, height, width)
        pixels = images.astype(np.float32) if graph.is_float else images
        try:
            session = session or onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            results = session.run(None, {"images": pixels})
        except Exception as error:  # onnxruntime's own exceptions have no common type
            raise DetrLiteError(
                f"onnxruntime cannot run the exported graph ({reason_of(error)}); nothing was written"
            ) from error
        found = dict(zip(("boxes", "scores", "labels"), results, strict=True))
        with torch.no_grad():
            boxes, scores, labels = (each.numpy() for each in graph(torch.from_numpy(pixels)))
        difference = Difference(
            batch,
            height,
            width,
            float(np.abs(found["scores"] - scores).max(initial=0.0)),
            _box_difference(found, boxes, scores, labels),
        )
        if not (difference.scores <= TOLERANCE and difference.boxes <= TOLERANCE * max(height, width)):
            raise DetrLiteError(f"the exported graph does not give torch's answers ({difference}); nothing was written")
        differences.append(difference)
    return differences


def _smooth_images(seed: int, batch: int, height: int, width: int) -> np.ndarray:
    """Random images with large and small structures, unlike noise, whose features are all alike."""
    random = np.random.default_rng(seed)
    total = np.zeros((batch, height, width, 3), dtype=np.float32)
    for cells in (4, 16, 64):
        coarse = torch.from_numpy(random.random((batch, 3, cells, cells), dtype=np.float32))
        fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
        total += fine.permute(0, 2, 3, 1).numpy() / 3
    return (total * 255).round().astype(np.uint8)


def _box_difference(found: dict[str, np.ndarray], boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> float:
    """The largest distance, in pixels, of a box to the nearest one of its class with about its score.

    Not of the box at the same place in the list: nearly equal scores may change places. The last ones are left out,
    as others of nearly the same score may have taken their places.
    """
    worst = 0.0
    for image in range(len(boxes)):
        is_clear = scores[image] > scores[image].min(initial=1.0) + 10 * TOLERANCE
        apart = np.abs(found["boxes"][image][None] - boxes[image][:, None]).max(-1, initial=0.0)
        is_other = (found["labels"][image][None] != labels[image][:, None]) | (
            np.abs(found["scores"][image][None] - scores[image][:, None]) > TOLERANCE
        )
        nearest = np.where(is_other, np.inf, apart).min(-1, initial=np.inf)
        worst = max(worst, float(nearest[is_clear].max(initial=0.0)))
    return worst
