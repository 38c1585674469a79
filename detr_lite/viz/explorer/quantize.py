"""Attention weights in 8 bits: rows as bytes with a peak each, and as text that a page can carry."""

import base64
import zlib
from dataclasses import dataclass
from math import inf

import numpy as np
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

_BLOCK = 1 << 18


@dataclass(frozen=True)
class QuantizedRows:
    """weight = code / 255 * peak, so no weight is off by more than half of 1/255 of its row's largest."""

    codes: UInt8[np.ndarray, "row column"]
    peaks: Float32[np.ndarray, " row"]
    """The largest weight of each row."""

    def weights(self) -> Float32[np.ndarray, "row column"]:
        return self.codes.astype(np.float32) * (self.peaks[:, None] / np.float32(255))

    def text(self, room: float = inf) -> str | None:
        """The peaks (little-endian), then the codes, deflated (zlib's format, which holds no time) and in base64.

        None if it would have more than `room` letters, which is known long before all of it is compressed.
        """
        data = self.peaks.astype("<f4").tobytes() + self.codes.tobytes()
        compressor, packed = zlib.compressobj(), bytearray()
        for start in range(0, len(data), _BLOCK):
            packed += compressor.compress(data[start : start + _BLOCK])
            if 4 / 3 * len(packed) > room:
                return None
        text = base64.b64encode(packed + compressor.flush()).decode("ascii")
        return text if len(text) <= room else None


def quantize_rows(weights: Float[Tensor, "*row column"]) -> QuantizedRows:
    """Every row (the last dimension) by itself; all other dimensions become one, row-major. A row may be all 0."""
    rows = weights.detach().float().cpu().numpy().reshape(-1, weights.shape[-1])
    peaks = rows.max(axis=1, initial=0)
    codes = np.rint(255 * (rows / np.where(peaks > 0, peaks, 1)[:, None]))
    return QuantizedRows(codes.astype(np.uint8), peaks.astype(np.float32))
