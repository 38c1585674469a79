"""The sampled points of deformable attention, quantized and encoded as text for an HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from jaxtyping import Float, Int16, UInt16

from detr_lite.structures import SampledAttention
from detr_lite.viz.explorer.quantize import QuantizedRows, compress, quantize_rows

STEPS = 8192
"""Of a position in the width or height of the image: a tenth of a pixel. Positions reach four images beyond it."""


@dataclass(frozen=True)
class QuantizedSamples:
    """Points of one row (a query in a layer and head) after the other; weights as in `QuantizedRows`."""

    weights: QuantizedRows
    positions: Int16[np.ndarray, "xy row point"]
    """(x, y) relative to the image, times `STEPS`."""
    outside: UInt16[np.ndarray, " row"]
    """The share of the row's weight that no token received, times 65535."""

    @staticmethod
    def join(parts: Sequence["QuantizedSamples"]) -> "QuantizedSamples":
        """The rows of all parts, of which there is at least one."""
        return QuantizedSamples(
            QuantizedRows.join([part.weights for part in parts]),
            np.concatenate([part.positions for part in parts], axis=1),
            np.concatenate([part.outside for part in parts]),
        )

    def to_base64(self, max_length: float = inf) -> str | None:
        """Peaks (float32), shares outside (uint16), all x, all y (int16) and codes, compressed as other rows."""
        numbers = (
            self.weights.peaks.astype("<f4"), self.outside.astype("<u2"), self.positions.astype("<i2"),
            self.weights.codes,
        )  # fmt: skip
        return compress(b"".join(part.tobytes() for part in numbers), max_length)


def quantize_samples(sampled: SampledAttention, query: int, image: int = 0) -> QuantizedSamples:
    """The points of a query in all layers and heads."""
    points = _flat(sampled.points[:, image, :, query].float().numpy(force=True), 2)
    outside = sampled.outside[:, image, :, query].float().numpy(force=True).flatten()
    return QuantizedSamples(
        quantize_rows(sampled.weights[:, image, :, query]),
        np.rint(STEPS * points.astype(np.float64)).clip(-32768, 32767).astype(np.int16).transpose(2, 0, 1),
        np.rint(65535 * outside.clip(0, 1)).astype(np.uint16),
    )


def _flat(values: Float[np.ndarray, "layer head *rest"], axes: int) -> Float[np.ndarray, "row *rest"]:
    """Layers and heads as one axis before the last `axes`."""
    return values.reshape(-1, *values.shape[-axes:])
