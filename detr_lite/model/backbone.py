"""Backbones: feature maps of any timm network."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from detr_lite.model.backbone_probe import pad_to_multiple, probe
from detr_lite.model.folding import call_folded, fold_batch_norms
from detr_lite.model.frozen import first_stage, freeze_batch_norms, freeze_first_layers
from detr_lite.model.fused import FusedNetwork, can_fuse
from detr_lite.model.onednn import use_pointwise_convs
from detr_lite.model.pretrained import check_complete, check_name, reset_zero_init_residuals
from detr_lite.model.vit import SimplePyramid, pyramid_strides
from detr_lite.structures import DetrLiteError
from detr_lite.text import reason_of


class Backbone(nn.Module):
    """Feature maps of a timm network at the given strides.

    A map has one token for every `stride` pixels from the top left corner, a partial one at the right and bottom
    included. For a network that needs whole patches, images are padded at the right and bottom; they are never
    resized, which would shift boxes against tokens.

    A plain vision transformer gives one map at the stride of its patches, and a simple feature pyramid the others. Its
    tokens also attend to the padding of a batch, and its position embedding is resampled to the padded size.

    Args:
        name: of a timm model, with or without the tag of its pretrained weights.
        strides: of the maps, in pixels, the finest first.
        pretrained: load timm's pretrained weights, or
        weights: these, a state_dict of timm's names; a classifier is ignored.
        freeze_batch_norm: only with pretrained weights; frozen random batch norm does not normalize.
        dilation: dilate the last stage instead of striding it (DETR-DC5, section 4.1). Its map has the stride of the
            stage before it.
        freeze_first_stage: freeze the stem and the first stage, as DETR does.
        exact: compute features as the original DETR does, to the last bit on a CPU; else, which is faster, convolutions
            have the memory format channels last and contain what follows them: batch norm that is frozen or in
            evaluation mode, and on a CPU in float32 residuals and activations (fused.py). Depthwise networks compute
            in float32 on a CPU, under autocast too.

    Errors: an unknown name, strides that the network does not have, a network that does not accept images of every
    size, cannot be dilated or has no first stage to freeze, and pretrained weights that cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        strides: Sequence[int] = (32,),
        pretrained: bool = False,
        weights: Mapping[str, Tensor] | None = None,
        freeze_batch_norm: bool = False,
        dilation: bool = False,
        freeze_first_stage: bool = False,
        exact: bool = False,
    ) -> None:
        super().__init__()
        check_name(name, pretrained and weights is None)
        plan = _dilated(name, _plan(name)) if dilation else _plan(name)
        coarsest = max(plan.levels)
        available = pyramid_strides(coarsest) if plan.is_plain else list(plan.levels)
        missing = [stride for stride in strides if stride not in available]
        if missing:
            known = ", ".join(map(str, available))
            how = " with model.dilation" if dilation else ""
            raise DetrLiteError(
                f"model.strides: {name}{how} has strides {known}, not {missing[0]}; set --model.strides"
            )
        self.strides: tuple[int, ...] = tuple(strides)
        own_strides = (coarsest,) if plan.is_plain else self.strides
        # Later stages are not built, as they would have no gradient.
        out_indices = [plan.levels[stride] for stride in own_strides]
        self.network = _create(name, pretrained, weights, out_indices=out_indices, **plan.options)
        _remove_unused_stages(self.network)
        self.channels_last = not exact
        if self.channels_last:
            self.network.to(memory_format=torch.channels_last)
            use_pointwise_convs(self.network)
        self.input_spec = probe(name, self.network, own_strides, coarsest)
        self.channels: tuple[int, ...] = self.input_spec.channels
        self.pyramid: SimplePyramid | None = None
        if self.strides != own_strides:
            self.pyramid = SimplePyramid(self.input_spec.channels[0], patch=coarsest, strides=self.strides)
            self.channels = self.pyramid.channels
        if not pretrained and weights is None:
            reset_zero_init_residuals(self.network)
        # On a CPU, depthwise convolutions are up to 1.8 times as slow in bfloat16 as in float32.
        self.in_float32 = not exact and _is_depthwise(self.network)
        self.recompute = False
        """Gradient checkpointing of the network's blocks."""
        self.folded: dict[str, str] = {}
        self.example_size = (1, 3, 2 * coarsest, 2 * coarsest)
        if freeze_batch_norm:
            freeze_batch_norms(self.network)
            if not exact:
                self.folded = fold_batch_norms(self.network, torch.zeros(self.example_size))
        self.fused: FusedNetwork | None = None
        if freeze_first_stage:
            freeze_first_layers(name, self.network)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """One (batch channel height width) map for each stride."""
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, self.input_spec.multiple)
        order = torch.channels_last if self.channels_last or images.is_cuda else torch.contiguous_format
        with torch.autocast("cpu", enabled=False) if self.in_float32 and not images.is_cuda else nullcontext():
            images = padded.contiguous(memory_format=order)
            recompute = self.recompute and self.training
            fused = None if recompute else self._fused_maps(images)
            maps = fused or call_folded(self.network, self.folded, images, recompute)
        if self.input_spec.returns_channels_last:
            maps = [features.permute(0, 3, 1, 2) for features in maps]
        if self.pyramid is not None:
            maps = self.pyramid(maps[0])
        # Crop tokens that lie in the padding alone.
        return [
            features[:, :, : ceil(height / stride), : ceil(width / stride)]
            for features, stride in zip(maps, self.strides, strict=True)
        ]

    def _fused_maps(self, images: Float[Tensor, "batch 3 height width"]) -> list[Tensor] | None:
        """The network's maps; None where it has to compute them by itself."""
        is_frozen = bool(self.folded)
        if not self.channels_last or (torch.is_grad_enabled() and not is_frozen) or not can_fuse(self.network, images):
            return None
        if self.fused is None or not self.fused.is_of(self.network):
            self.fused = FusedNetwork(self.network, self.folded, torch.zeros(self.example_size))
        return self.fused(images)

    def train(self, mode: bool = True) -> "Backbone":
        if self.fused is not None:
            self.fused.release()
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which fuse their own weights."""
        return {**self.__dict__, "fused": None}


def has_first_stage(name: str) -> bool:
    """Whether a timm network has a first stage that can be frozen."""
    return bool(first_stage(_meta_model(name, _plan(name).options)))


@dataclass(frozen=True)
class _Plan:
    """How to create a network for all image sizes, and the strides of its maps."""

    levels: dict[int, int]
    """Stride -> timm's out_index of the last map with it, the finest first."""
    options: dict[str, Any]
    """Keyword arguments of `timm.create_model`."""

    @property
    def is_plain(self) -> bool:
        """Whether all maps have the same stride, as in a plain ViT."""
        return len(self.levels) == 1


def _plan(name: str) -> _Plan:
    # Networks with windows or position embeddings need an option to accept images of any size. Position embeddings keep
    # their size and are resampled for each batch.
    candidates: list[dict[str, Any]] = [{"strict_img_size": False}, {"dynamic_img_size": True}, {}]
    for options in candidates:
        try:
            network = _meta_model(name, options)
            break
        except DetrLiteError:  # most networks have neither option and need none
            if not options:
                raise
    plan = _Plan(_levels(network), options)
    if plan.is_plain and getattr(network, "norm", None) is False:
        # With the final norm, as in pretraining; without it a few channels are far larger than the others.
        getter: Any = type(network)
        plan.options["feature_cls"] = partial(getter, norm=True)
    return plan


def _dilated(name: str, plan: _Plan) -> _Plan:
    """The same network with its last stage dilated.

    Errors: a network that rejects `output_stride` or ignores it.
    """
    stride = max(plan.levels) // 2
    options = {**plan.options, "output_stride": stride}
    try:
        levels = {} if plan.is_plain else _levels(_meta_model(name, options))
    except DetrLiteError:
        levels = {}
    if max(levels, default=0) != stride:
        raise DetrLiteError(f"model.dilation: {name} cannot dilate its last stage; set --model.dilation false")
    return _Plan(levels, options)


def _levels(network: Any) -> dict[int, int]:
    info = network.feature_info
    return dict(zip(map(int, info.reduction()), info.out_indices, strict=True))


def _meta_model(name: str, options: dict[str, Any]) -> Any:
    """The network without weights, on the meta device; the random state is not changed."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return _create(name, pretrained=False, **options)
        except DetrLiteError:  # older versions of timm read weight values in some constructors
            return _create(name, pretrained=False, **options)


def _create(name: str, pretrained: bool, weights: Mapping[str, Tensor] | None = None, **options: Any) -> nn.Module:
    # It warns of the classifier and of later stages in the file, which are meant to be left out.
    timm_logger = logging.getLogger("timm.models._builder")
    level = timm_logger.level
    timm_logger.setLevel(logging.ERROR)
    try:
        if weights is None:
            return timm.create_model(name, pretrained=pretrained, features_only=True, **options)  # type: ignore[no-any-return]
        source = {"state_dict": dict(weights), "source": ""}
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=source, features_only=True, **options)
        network.pretrained_cfg = network.default_cfg = {**network.pretrained_cfg, "state_dict": None}  # free the memory
    except Exception as error:
        # timm and the hub have no common error type, and the remedy is always the same.
        reason = reason_of(error)
        if weights is not None:
            raise DetrLiteError(f"model.pretrained: the weights do not fit {name} ({reason})") from error
        if not pretrained:
            raise DetrLiteError(
                f"model.backbone: {name} does not give feature maps ({reason}); choose another"
            ) from error
        raise DetrLiteError(
            f"model.backbone: pretrained weights of {name} could not be loaded ({reason}); connect to the internet "
            "once to download them, give a file of them as --model.pretrained FILE, or start from random weights with "
            "--model.pretrained false"
        ) from error
    finally:
        timm_logger.setLevel(level)
    check_complete(name, network, weights)
    return network  # type: ignore[no-any-return]


def _is_depthwise(network: nn.Module) -> bool:
    """Whether it has depthwise convolutions with batch norm, as MobileNets and EfficientNets do."""
    modules = list(network.modules())
    has_depthwise = any(isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 for module in modules)
    return has_depthwise and any(isinstance(module, nn.BatchNorm2d) for module in modules)


def _remove_unused_stages(network: Any) -> None:
    """timm builds and computes all stages of EfficientNets and MobileNets, whichever maps are asked for."""
    modules: list[str] = network.feature_info.module_name()
    if isinstance(getattr(network, "blocks", None), nn.Sequential) and modules[-1].startswith("blocks."):
        network.blocks = network.blocks[: int(modules[-1].split(".")[1]) + 1]
