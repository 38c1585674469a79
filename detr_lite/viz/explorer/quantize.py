"""Attention weights quantized to 8 bits row by row, and encoded as text for an HTML page."""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8
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
        return compress(self.peaks.astype("<f4").tobytes() + self.codes.tobytes(), max_length)

    @staticmethod
    def join(parts: Sequence["QuantizedRows"]) -> "QuantizedRows":
        """The rows of all parts, of which there is at least one."""
        return QuantizedRows(
            np.concatenate([part.codes for part in parts]), np.concatenate([part.peaks for part in parts])
        )


@dataclass(frozen=True)
class SparseRows:
    """`QuantizedRows` by the codes that are not 0: of deformable attention some fifty in thousands of columns.

    A page that unpacked them whole would take a hundred megabytes for an image of 640 pixels.
    """

    peaks: Float32[np.ndarray, " row"]
    counts: Int64[np.ndarray, " row"]
    """How many entries each row has; they follow one another."""
    columns: Int64[np.ndarray, " entry"]
    codes: UInt8[np.ndarray, " entry"]
    length: int
    """How many columns there are."""

    @staticmethod
    def of_entries(
        tokens: Int64[np.ndarray, "row entry"], shares: Float32[np.ndarray, "row entry"], length: int
    ) -> "SparseRows":
        """The rows of entries as in `SampledAttention`, never made whole; those of one token add up."""
        places = tokens + length * np.arange(len(tokens))[:, None]
        place, which = np.unique(places, return_inverse=True)
        weights = np.bincount(which.ravel(), shares.ravel(), minlength=len(place))
        row, column = np.divmod(place, length)
        peaks = np.zeros(len(tokens))
        np.maximum.at(peaks, row, weights)
        codes = np.rint(255 * (weights / np.where(peaks > 0, peaks, 1)[row])).astype(np.uint8)
        row, column, codes = row[codes > 0], column[codes > 0], codes[codes > 0]
        return SparseRows(peaks.astype(np.float32), np.bincount(row, minlength=len(peaks)), column, codes, length)

    @staticmethod
    def join(parts: Sequence["SparseRows"]) -> "SparseRows":
        """The rows of all parts, of which there is at least one."""
        return SparseRows(
            peaks=np.concatenate([part.peaks for part in parts]),
            counts=np.concatenate([part.counts for part in parts]),
            columns=np.concatenate([part.columns for part in parts]),
            codes=np.concatenate([part.codes for part in parts]),
            length=parts[0].length,
        )

    def to_base64(self, max_length: float = inf) -> str | None:
        """Peaks (float32), counts (uint32), columns (uint16, or uint32 where there are more) and codes, as above."""
        columns = self.columns.astype("<u2" if self.length <= 1 << 16 else "<u4")
        numbers = (self.peaks.astype("<f4"), self.counts.astype("<u4"), columns, self.codes)
        return compress(b"".join(part.tobytes() for part in numbers), max_length)


def quantize_rows(weights: Float[Tensor, "*row column"]) -> QuantizedRows:
    """Quantize each row (the last axis) by its own peak; all other axes are flattened. A row may be all 0."""
    rows = weights.detach().float().cpu().numpy().reshape(-1, weights.shape[-1])
    peaks = rows.max(axis=1, initial=0)
    codes = np.rint(255 * (rows / np.where(peaks > 0, peaks, 1)[:, None]))
    return QuantizedRows(codes.astype(np.uint8), peaks.astype(np.float32))


def compress(data: bytes, max_length: float = inf) -> str | None:
    """With zlib, in base64; None if that is longer than `max_length` characters."""
    compressor, packed = zlib.compressobj(), bytearray()
    for start in range(0, len(data), _CHUNK_BYTES):
        packed += compressor.compress(data[start : start + _CHUNK_BYTES])
        if 4 / 3 * len(packed) > max_length:
            return None
    text = base64.b64encode(packed + compressor.flush()).decode("ascii")
    return text if len(text) <= max_length else None
