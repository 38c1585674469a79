"""The attention of one forward pass of a model of `transformers`, as `AttentionMaps`."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from detr_lite.attention_maps import dense_rows
from detr_lite.attention_recorder import AttentionRecorder
from detr_lite.families.anatomy import anatomy_of
from detr_lite.families.geometry import token_padding, token_spans
from detr_lite.families.intercept import (
    attention_rows,
    full_mask,
    on_deformable_attention,
    on_dense_attention,
    on_returned_weights,
)
from detr_lite.families.sampling import Samples, points_in_image
from detr_lite.structures import AttentionMaps, AttentionSelection, DetrLiteError, SampledAttention


class AttentionCapture:
    """Records the attention of a `...ForObjectDetection` of `transformers` in evaluation mode.

        with AttentionCapture(network, selection) as capture:
            output = network(pixel_values=..., pixel_mask=...)
        maps = capture.maps(is_padding)

    The output is, to the bit, what it is without. Of several passes the last one counts. Attention of layers, heads
    and queries that are not selected is never made, except in DAB-DETR, which always computes all of it. Where
    self-attention has another number of heads than cross-attention, selected heads are those of cross-attention, and
    of self-attention all heads are returned.

    Cross-attention is exact: its rows times the values are what the module computes. Deformable attention whose
    points or weights fall outside of the grid, or on padding that the network masks, has rows that sum to less than 1.

    Errors: an unknown family, training mode, and layers, heads or queries that do not exist.
    """

    def __init__(self, network: nn.Module, selection: AttentionSelection | None = None) -> None:
        self.network = network
        self.selection = selection or AttentionSelection()
        self.anatomy = anatomy_of(network)
        self._hooks = ExitStack()
        self._clear()

    def __enter__(self) -> "AttentionCapture":
        with ExitStack() as hooks:  # if one fails, those before it are taken off
            install = self._dab_attention if self.anatomy.family == "dab_detr" else self._dense_attention
            hooks.callback(self.network.register_forward_pre_hook(self._begin, with_kwargs=True).remove)
            for layer, module in enumerate(self.anatomy.encoder):
                hooks.callback(install("encoder", layer, module))
            if self.anatomy.encoder_map is not None:
                hooks.callback(self.anatomy.encoder_map.register_forward_hook(self._see_encoder_map).remove)
            for layer, (cross, queries) in enumerate(zip(self.anatomy.cross, self.anatomy.queries, strict=True)):
                hooks.callback(install("queries", layer, queries))
                if self.anatomy.is_dense:
                    hooks.callback(install("cross", layer, cross))
                else:
                    hooks.callback(cross.register_forward_pre_hook(self._see_mask, with_kwargs=True).remove)
                    hooks.callback(on_deformable_attention(cross, self._on_samples(layer)))
            self._hooks = hooks.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._hooks.close()

    @torch.no_grad()
    def maps(self, is_padding: Bool[Tensor, "batch height width"]) -> AttentionMaps:
        """The attention of the last pass.

        Args:
            is_padding: of the pixels that the network saw, at the right and bottom of each image.
        """
        if "cross" not in self._recorders:
            raise RuntimeError("there is no attention: the network has not been called within the context")
        if is_padding.shape != self._image_shape:
            raise ValueError(f"padding of {tuple(is_padding.shape)} pixels does not fit images of {self._image_shape}")
        is_padding = is_padding.to(self._like.device)
        batch, queries = self._recorders["cross"].batch, self._recorders["queries"]
        grids = (self._encoder_grid,) if self.anatomy.is_dense and self._encoder_grid else self._grids
        spans = token_spans(is_padding, grids, self.anatomy.patch_size)
        sampled = None if self.anatomy.is_dense else self._sampled(spans)
        encoder_grid = self._encoder_grid or grids[-1]
        encoder = self._recorders.get("encoder")
        if encoder is None:
            tokens = encoder_grid[0] * encoder_grid[1]
            encoder = self._recorder("encoder", (0, batch, self.anatomy.heads, tokens, tokens))
        return AttentionMaps(
            cross=self._cross(sampled),
            queries=queries.stack(like=self._like),
            encoder=encoder.stack(like=self._like),
            grids=grids,
            encoder_grids=(encoder_grid,),
            is_padding=token_padding(is_padding, grids),
            spans=spans,
            sampled=sampled,
        )

    def _clear(self) -> None:
        self._recorders: dict[str, AttentionRecorder] = {}
        self._samples: dict[int, Samples] = {}
        self._grids: tuple[tuple[int, int], ...] = ()
        self._encoder_grid: tuple[int, int] | None = None
        self._is_masked: Bool[Tensor, "batch token"] | None = None
        self._like = torch.empty(0)
        self._image_shape: tuple[int, ...] = ()

    def _begin(self, network: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if network.training:
            raise DetrLiteError("attention is captured in evaluation mode; call eval() on the network first")
        self._clear()
        images = kwargs["pixel_values"] if "pixel_values" in kwargs else args[0]
        self._image_shape = (images.shape[0], *images.shape[2:])

    def _recorder(self, kind: str, shape: tuple[int, int, int, int, int]) -> AttentionRecorder:
        """The recorder of the encoder, of self-attention ("queries") or of cross-attention, made when first needed."""
        if kind not in self._recorders:
            chosen = self.selection
            heads = chosen.heads if shape[2] == self.anatomy.heads else None
            self._recorders[kind] = (
                AttentionRecorder("encoder", chosen.encoder_layers, heads, shape=shape, mean=chosen.encoder_mean)
                if kind == "encoder"
                else AttentionRecorder("decoder", chosen.layers, heads, chosen.queries, shape=shape)
            )
        return self._recorders[kind]

    def _layers(self, kind: str) -> int:
        return len(self.anatomy.encoder if kind == "encoder" else self.anatomy.cross)

    def _dense_attention(self, kind: str, layer: int, module: nn.Module) -> Callable[[], object]:
        @torch.no_grad()
        def record(query: Tensor, key: Tensor, attention_mask: Any, scaling: float | None) -> None:
            batch, heads, rows, _ = query.shape
            recorder = self._recorder(kind, (self._layers(kind), batch, heads, rows, key.shape[2]))
            self._like = query.new_empty(0)
            if recorder.needs(layer):
                mask = full_mask(attention_mask, query, key)
                mask = None if mask is None else recorder.select(mask)
                key = key if recorder.has_all_heads else key[:, recorder.heads]
                recorder.add_selected(layer, attention_rows(recorder.select(query), key, mask, scaling))

        return on_dense_attention(module, record)

    def _dab_attention(self, kind: str, layer: int, module: nn.Module) -> Callable[[], object]:
        def record(weights: Float[Tensor, "batch head row token"]) -> None:
            batch, heads, rows, tokens = weights.shape
            recorder = self._recorder(kind, (self._layers(kind), batch, heads, rows, tokens))
            self._like = weights.new_empty(0)
            if recorder.needs(layer):
                recorder.add(layer, weights.detach())

        return on_returned_weights(module, record)

    def _on_samples(self, layer: int) -> Callable[..., None]:
        def record(
            locations: Float[Tensor, "batch query head point 2"],
            weights: Float[Tensor, "batch query head point"],
            points: Sequence[int],
            grids: Sequence[Sequence[int]],
            is_discrete: bool,
        ) -> None:
            self._grids = tuple((int(height), int(width)) for height, width in grids)
            tokens = sum(height * width for height, width in self._grids)
            batch, queries, heads, _ = weights.shape
            recorder = self._recorder("cross", (self._layers("cross"), batch, heads, queries, tokens))
            level = torch.tensor([index for index, count in enumerate(points) for _ in range(count)])
            locations, weights = locations.detach().transpose(1, 2), weights.detach().transpose(1, 2)
            # A layer that is not selected is kept without queries, for the sizes of an empty selection.
            kept = recorder.select if recorder.needs(layer) else lambda each: each[:, :, :0].clone()
            self._samples[layer] = Samples(
                kept(locations), kept(weights), level.to(weights.device), self._grids, is_discrete, self._is_masked
            )

        return record

    def _see_mask(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        self._is_masked = None if mask is None else ~mask.detach().bool()

    def _see_encoder_map(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self._encoder_grid = (output.shape[-2], output.shape[-1])

    def _cross(self, sampled: SampledAttention | None) -> Float[Tensor, "layer batch head query token"]:
        recorder = self._recorders["cross"]
        if sampled is None:
            return recorder.stack(like=self._like)
        if self.selection.samples_only:
            return recorder.without_weights(like=sampled.shares)
        return dense_rows(sampled.tokens, sampled.shares, recorder.tokens)

    def _sampled(self, spans: Float[Tensor, "batch level 2"]) -> SampledAttention:
        cross, first = self._recorders["cross"], self._samples[0]
        chosen = [self._samples[layer] for layer in cross.layers]
        rows = [each.rows() for each in chosen]
        shape = (0, cross.batch, len(cross.heads), len(cross.rows))
        if not chosen:
            none = first.weights.new_zeros(*shape, len(first.level))
            points, tokens = first.locations.new_zeros(*none.shape, 2), none.long()
            return SampledAttention(points, none, first.level, none.sum(-1), tokens, none)
        return SampledAttention(
            points=torch.stack([points_in_image(each.locations, each.level, each.grids, spans) for each in chosen]),
            weights=torch.stack([each.weights for each in chosen]),
            level=first.level,
            outside=torch.stack([each.outside for each in rows]),
            tokens=torch.stack([each.tokens for each in rows]),
            shares=torch.stack([each.weights for each in rows]),
        )
