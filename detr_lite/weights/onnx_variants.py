"""Smaller variants of an exported model: float16, and int8 calibrated on images."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detr_lite.io import atomic_write
from detr_lite.weights.onnx_export import METADATA_KEY as METADATA
from detr_lite.weights.onnx_export import set_metadata
from detr_lite.weights.onnx_graph import quiet

HALF, INT8 = "model_half.onnx", "model_int8.onnx"

SMALLEST_MATRIX = 32
"""Matrices with fewer rows or columns are those of heads and of biases of attention, which cost little time."""


def write_half(path: Path, output: Path) -> None:
    """The model in a file, computed in float16, with the same inputs and outputs.

    Scores are ranked and boxes multiplied by the image's size in float32: float16 has steps of half a pixel above 512.
    """
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    in_float32 = {*DEFAULT_OP_BLOCK_LIST, "TopK", "Range", "CumSum", "Resize", "Sin", "Cos", "Log", "Pow"}
    with quiet():
        proto = convert_float_to_float16(onnx.load(str(path)), keep_io_types=True, op_block_list=sorted(in_float32))
    _save(proto, "float16", output)


def write_int8(path: Path, images: Iterable[np.ndarray], output: Path) -> None:
    """Quantize convolutions and matrix products of the model in a file to 8 bits (static, per channel).

    The last layers, which give scores and boxes, stay in float32.

    Args:
        images: arrays (1, height, width, 3) of the model's input type, for the ranges of its activations.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, arrays: Iterator[np.ndarray]) -> None:
            self.arrays = arrays

        def get_next(self) -> dict[str, np.ndarray] | None:
            array = next(self.arrays, None)
            return None if array is None else {"images": array}

    with quiet(), tempfile.TemporaryDirectory() as folder:
        prepared, quantized = Path(folder) / "prepared.onnx", Path(folder) / "quantized.onnx"
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantized),
            Reader(iter(images)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            nodes_to_exclude=exact_nodes(prepared),
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )
        _save(onnx.load(str(quantized)), "int8", output)


def _save(proto: Any, precision: str, output: Path) -> None:
    """Write the model with its precision in the metadata."""
    metadata = next(json.loads(each.value) for each in proto.metadata_props if each.key == METADATA)
    set_metadata(proto, {**metadata, "precision": precision})
    content = proto.SerializeToString()
    atomic_write(output, lambda file: file.write(content))


def exact_nodes(path: Path) -> list[str]:
    """Names of the nodes that stay in float32: products whose second factor is no weight, as in attention, and the
    layers of the heads, whose few outputs are scores and boxes."""
    import onnx

    graph = onnx.load(str(path)).graph
    weights = {each.name: list(each.dims) for each in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            shapes = [weights[name] for name in node.input if name in weights]
            if not shapes or min(shapes[0]) < SMALLEST_MATRIX:
                kept.append(node.name)
    return kept
