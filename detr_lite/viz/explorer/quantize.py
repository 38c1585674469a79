"""Attention weights quantized to 8 bits row by row, and encoded as text for an HTML page."""

import base64
import zlib
from dataclasses import dataclass
from math import inf

import numpy as np
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class QuantizedRows:
    """weight = code / 255 * peak, so the error of a weight is at most peak / 510."""

    codes: UInt8[np.ndarray, "row column"]
    peaks: Float32[np.ndarray, " row"]
    """The largest weight of each row."""

    def dequantize(self) -> Float32[np.ndarray, "row column"]:
        return self.codes.astype(np.float32) * (self.peaks[:, None] / np.float32(255))

    def to_base64(self, max_length: float = inf) -> str | None:
        """The peaks (float32, little-endian), then the codes, compressed with zlib and encoded in base64.

        None if that is longer than `max_length` characters; compression stops as soon as that is certain.
        """
        data = self.peaks.astype("<f4").tobytes() + self.codes.tobytes()
        compressor, packed = zlib.compressobj(), bytearray()
        for start in range(0, len(data), _CHUNK_BYTES):
            packed += compressor.compress(data[start : start + _CHUNK_BYTES])
            if 4 / 3 * len(packed) > max_length:
                return None
        text = base64.b64encode(packed + compressor.flush()).decode("ascii")
        return text if len(text) <= max_length else None


def quantize_rows(weights: Float[Tensor, "*row column"]) -> QuantizedRows:
    """Quantize each row (the last axis) by its own peak; all other axes are flattened. A row may be all 0."""
    rows = weights.detach().float().cpu().numpy().reshape(-1, weights.shape[-1])
    peaks = rows.max(axis=1, initial=0)
    codes = np.rint(255 * (rows / np.where(peaks > 0, peaks, 1)[:, None]))
    return QuantizedRows(codes.astype(np.uint8), peaks.astype(np.float32))
