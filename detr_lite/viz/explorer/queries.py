"""Cross-attention of queries as a page holds it: rows over tokens and, of deformable models, the sampled points."""

from collections.abc import Mapping, Sequence

from jaxtyping import Bool
from torch import Tensor

from detr_lite.structures import AttentionMaps, SampledAttention
from detr_lite.viz.explorer.quantize import QuantizedRows, SparseRows, quantize_rows
from detr_lite.viz.explorer.samples import QuantizedSamples, quantize_samples

Part = QuantizedRows | SparseRows | QuantizedSamples
QueryParts = Mapping[str, Part]
"""A query's data by the name that it has in the page."""


def query_parts(attention: AttentionMaps, query: int, is_image: Bool[Tensor, " token"]) -> QueryParts:
    """Rows (layer head) of the tokens that are not padding, and where there are samples, their rows."""
    if attention.sampled is None:
        return {"cross-attention": quantize_rows(attention.cross[:, 0, :, query][..., is_image])}
    rows = _sparse_rows(attention.sampled, query, is_image)
    return {"cross-attention": rows, "samples": quantize_samples(attention.sampled, query)}


def _sparse_rows(sampled: SampledAttention, query: int, is_image: Bool[Tensor, " token"]) -> SparseRows:
    tokens, shares = (each[:, 0, :, query].flatten(0, 1).cpu() for each in (sampled.tokens, sampled.shares))
    column = is_image.long().cumsum(0) - 1  # among the tokens that are not padding
    shares = shares.float().where(is_image[tokens], 0)
    return SparseRows.of_entries(column.clamp(min=0)[tokens].numpy(), shares.numpy(), int(is_image.sum()))


def fit_queries(
    attention: AttentionMaps, is_image: Bool[Tensor, " token"], order: Sequence[int], max_size: float
) -> tuple[dict[int, QueryParts], int]:
    """The first queries of `order` that fit, and their size, which is not larger when they are compressed together."""
    included: dict[int, QueryParts] = {}
    size = 0
    for query in order:
        parts, added = query_parts(attention, query, is_image), 0
        for part in parts.values():
            text = part.to_base64(max_size - size - added)
            if text is None:
                return included, size
            added += len(text)
        included[query] = parts
        size += added
    return included, size


def query_blobs(included: Mapping[int, QueryParts]) -> dict[str, str]:
    """The data of all queries, one after the other."""
    by_name: dict[str, list[Part]] = {}
    for parts in included.values():
        for name, part in parts.items():
            by_name.setdefault(name, []).append(part)
    blobs = {name: type(parts[0]).join(parts).to_base64() for name, parts in by_name.items()}  # type: ignore[arg-type]
    return {name: text for name, text in blobs.items() if text is not None}
