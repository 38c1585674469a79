"""Backbones: any timm network that gives feature maps."""

import difflib
from collections.abc import Sequence

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from detr_lite.structures import DetrLiteError


class FrozenBatchNorm(nn.Module):
    """Batch norm with fixed statistics and scales, as the original's for pretrained weights.

    Same keys as `nn.BatchNorm2d` but for the step counter, so that weights load either way.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().clone())
        # timm folds activation (and drop-block) into some of its norms; what follows the normalisation must stay.
        self.drop = getattr(norm, "drop", None) or nn.Identity()
        self.act = getattr(norm, "act", None) or nn.Identity()

    def forward(self, features: Float[Tensor, "batch channel height width"]) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        normalised = features * scale[:, None, None].to(features.dtype) + shift[:, None, None].to(features.dtype)
        return self.act(self.drop(normalised))  # type: ignore[no-any-return]


class Backbone(nn.Module):
    """Feature maps of a timm network at the wanted strides.

    Freeze batch norm only where pretrained weights are loaded: with random weights that trains a network without
    normalisation (and timm starts each residual branch at scale zero, which freezing would keep there).

    Errors: an unknown name, strides that the network does not have, or pretrained weights that cannot be had.
    """

    def __init__(
        self, name: str, strides: Sequence[int] = (32,), pretrained: bool = False, freeze_batch_norm: bool = False
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise DetrLiteError(f"model.backbone: timm has no model named {name!r}{hint}")
        if pretrained and not _has_weights(name):
            known = ", ".join(timm.list_pretrained(f"{name.split('.')[0]}.*")[:5])
            raise DetrLiteError(
                f"model.backbone: timm has no pretrained weights for {name}; set --model.pretrained false"
                + (f", or take one of {known}" if known else "")
            )
        available = _feature_strides(name)
        missing = [stride for stride in strides if stride not in available]
        if missing:
            known = ", ".join(map(str, available))
            raise DetrLiteError(f"model.stride: {name} has strides {known}, not {missing[0]}; set --model.stride")
        self.network = _create(name, pretrained, out_indices=[available.index(stride) for stride in strides])
        # Convolutions are faster with channels last (a tenth of the step on a processor); the numbers are the same.
        self.network.to(memory_format=torch.channels_last)
        self.strides: tuple[int, ...] = tuple(strides)
        self.channels: tuple[int, ...] = tuple(_feature_info(self.network).channels())
        if not pretrained:
            _open_residual_branches(self.network)
        if freeze_batch_norm:
            _freeze_batch_norms(self.network)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """One (batch channel height width) map for each stride."""
        return list(self.network(images.contiguous(memory_format=torch.channels_last)))


def normalisation_of(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of pixels in 0 .. 1 that a timm network was trained with."""
    pretrained = timm.models.get_pretrained_cfg(name if _has_weights(name) else name.split(".")[0])
    if pretrained is None:
        return timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD
    return tuple(pretrained.mean), tuple(pretrained.std)


def _has_weights(name: str) -> bool:
    try:
        pretrained = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:  # an unknown tag after the dot
        return False
    return pretrained is not None and bool(pretrained.has_weights)


def _feature_strides(name: str) -> list[int]:
    """Strides of a network's maps, without making its weights."""
    with torch.device("meta"):
        return [int(stride) for stride in _feature_info(_create(name, pretrained=False)).reduction()]


def _feature_info(network: nn.Module) -> timm.models.FeatureInfo:
    return network.feature_info


def _create(name: str, pretrained: bool, **options: object) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=pretrained, features_only=True, **options)  # type: ignore[no-any-return]
    except Exception as error:
        # timm and the hub have no common error type: a refused connection, a missing file and a cut-off download
        # each come as their own; for the user the remedy is the same.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if not pretrained:
            raise DetrLiteError(
                f"model.backbone: {name} cannot give feature maps ({reason}); choose another"
            ) from error
        raise DetrLiteError(
            f"model.backbone: the pretrained weights of {name} could not be had ({reason}); connect to the network "
            "once to fill timm's cache, or start from random weights with --model.pretrained false"
        ) from error


def _open_residual_branches(network: nn.Module) -> None:
    """Set norms' scales that start at zero to one.

    timm closes each residual block so, which helps very deep networks over many epochs. In a short run the small rate
    of a scale keeps the block's convolutions from learning, and a network with one block per stage is little else.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)


def _freeze_batch_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm(child))
        else:
            _freeze_batch_norms(child)
