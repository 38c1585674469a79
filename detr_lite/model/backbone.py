"""Backbones: any timm network that gives feature maps."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from detr_lite.model.frozen import freeze_batch_norms, freeze_first_layers
from detr_lite.model.vit import SimplePyramid, pyramid_strides
from detr_lite.structures import DetrLiteError
from detr_lite.text import reason_of


class Backbone(nn.Module):
    """Feature maps of a timm network at the wanted strides.

    Whatever the network, a map has one token for every `stride` pixels, begun or whole, counted from the top left
    corner. Where the network wants whole patches the image is padded at its right and bottom; it is never resized, or
    boxes would lie elsewhere than their tokens.

    A plain vision transformer gives one map, at the stride of its patches; other strides come by a simple pyramid.
    Its tokens attend to the padding of a batch, too, and its position embedding is stretched over the whole batch;
    batches of images of similar shape keep both small.

    Freeze batch norm only where pretrained weights are loaded: with random weights that trains a network without
    normalisation (and timm starts each residual branch at scale zero, which freezing would keep there).

    With `dilation` the last stage keeps the stride of the one before, and its kernels are spread instead (DC5 of DETR,
    section 4.1); its map is then the one at that stride.

    Convolutions are faster with `channels_last` (a tenth of the step on a processor) and round otherwise. That is next
    to nothing in the maps, but where it turns a ReLU on or off it is a hundredth of some gradients: without it, a
    network on the processor is the original's to the last bit.

    Errors: an unknown name, strides that the network does not have, a network that cannot take images of every size or
    cannot be dilated, a first stage to freeze where there is none, or pretrained weights that cannot be had.
    """

    def __init__(
        self,
        name: str,
        strides: Sequence[int] = (32,),
        pretrained: bool = False,
        freeze_batch_norm: bool = False,
        dilation: bool = False,
        freeze_first_stage: bool = False,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        _check_name(name, pretrained)
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
        # Stages beyond the coarsest wanted one are not made; they would get no gradient.
        out_indices = [plan.levels[stride] for stride in own_strides]
        self.network = _create(name, pretrained, out_indices=out_indices, **plan.options)
        self.channels_last = channels_last
        if channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.habits = _probe(name, self.network, own_strides, coarsest)
        self.channels: tuple[int, ...] = self.habits.channels
        self.pyramid: SimplePyramid | None = None
        if self.strides != own_strides:
            self.pyramid = SimplePyramid(self.habits.channels[0], patch=coarsest, strides=self.strides)
            self.channels = self.pyramid.channels
        if not pretrained:
            _reset_zero_init_residuals(self.network)
        if freeze_batch_norm:
            freeze_batch_norms(self.network)
        if freeze_first_stage:
            freeze_first_layers(name, self.network)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """One (batch channel height width) map for each stride."""
        height, width = images.shape[-2:]
        padded = _padded(images, self.habits.multiple)
        order = torch.channels_last if self.channels_last or images.is_cuda else torch.contiguous_format
        maps: list[Tensor] = list(self.network(padded.contiguous(memory_format=order)))
        if self.habits.gives_channels_last:
            maps = [features.permute(0, 3, 1, 2) for features in maps]
        if self.pyramid is not None:
            maps = self.pyramid(maps[0])
        # Tokens that lie in the padding alone are left out.
        return [
            features[:, :, : ceil(height / stride), : ceil(width / stride)]
            for features, stride in zip(maps, self.strides, strict=True)
        ]


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


def _check_name(name: str, pretrained: bool) -> None:
    # timm takes "hf-hub:NAME" and "local-dir:PATH", too: other people's files, which a checkpoint may not ask for.
    if not re.fullmatch(r"[\w.]+", name) or not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise DetrLiteError(f"model.backbone: timm has no model named {name!r}{hint}")
    if pretrained and not _has_weights(name):
        known = ", ".join(timm.list_pretrained(f"{name.split('.')[0]}.*")[:5])
        raise DetrLiteError(
            f"model.backbone: timm has no pretrained weights for {name}; set --model.pretrained false"
            + (f", or take one of {known}" if known else "")
        )


@dataclass(frozen=True)
class _Plan:
    """What is known of a network before it is made."""

    levels: dict[int, int]
    """timm's number of the last map at each stride, the finest first."""
    options: dict[str, Any]
    """How it is to be made."""

    @property
    def is_plain(self) -> bool:
        """All its maps have one stride, as a plain ViT's."""
        return len(self.levels) == 1


def _plan(name: str) -> _Plan:
    # Networks with windows or position embeddings take images of other sizes than their own if asked to. An embedding
    # keeps its size and is resampled for each batch, so that no weight depends on the images seen.
    choices: list[dict[str, Any]] = [{"strict_img_size": False}, {"dynamic_img_size": True}, {}]
    for options in choices:
        try:
            sketch = _meta_model(name, options)
            break
        except DetrLiteError:  # most networks know neither option, and need none
            if not options:
                raise
    plan = _Plan(_levels(sketch), options)
    if plan.is_plain and getattr(sketch, "norm", None) is False:
        # With the network's own last norm on its map: so were its features learned, and without it a few channels of a
        # pretrained one dwarf all others.
        getter: Any = type(sketch)
        plan.options["feature_cls"] = partial(getter, norm=True)
    return plan


def _dilated(name: str, plan: _Plan) -> _Plan:
    """The plan of the same network with its last stage dilated.

    Errors: a network that cannot. Some refuse the word, some take it and do nothing.
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


def _levels(sketch: Any) -> dict[int, int]:
    info = sketch.feature_info
    return dict(zip(map(int, info.reduction()), info.out_indices, strict=True))


def _meta_model(name: str, options: dict[str, Any]) -> Any:
    """The network without its weights; the random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return _create(name, pretrained=False, **options)
        except DetrLiteError:  # older versions of timm read weights of some networks while they make them
            return _create(name, pretrained=False, **options)


def _create(name: str, pretrained: bool, **options: Any) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=pretrained, features_only=True, **options)  # type: ignore[no-any-return]
    except Exception as error:
        # timm and the hub have no common error type: a refused connection, a missing file and a cut-off download
        # each come as their own; for the user the remedy is the same.
        if not pretrained:
            raise DetrLiteError(
                f"model.backbone: {name} cannot give feature maps ({reason_of(error)}); choose another"
            ) from error
        raise DetrLiteError(
            f"model.backbone: the pretrained weights of {name} could not be had ({reason_of(error)}); connect to the "
            "network once to fill timm's cache, or start from random weights with --model.pretrained false"
        ) from error


@dataclass(frozen=True)
class InputSpec:
    """What a network is given, and what it gives."""

    multiple: int
    """Sides of its images are multiples of it."""
    gives_channels_last: bool
    channels: tuple[int, ...]


def _probe(name: str, network: nn.Module, strides: Sequence[int], coarsest: int) -> InputSpec:
    """Learn a network's habits by showing it a small image whose sides nothing divides.

    timm does not tell them: some networks need whole patches, some drop the pixels that do not fill one, some give
    their channels last, and some have windows or embeddings for one image size alone.

    Errors: maps without a token for every `stride` pixels, also after padding to a multiple of `coarsest`.
    """
    reason = ""
    for multiple in (1, coarsest):
        image = _padded(torch.zeros(1, 3, 2 * coarsest + 1, 4 * coarsest - 1), multiple)
        grids = [tuple(ceil(side / stride) for side in image.shape[2:]) for stride in strides]
        try:
            shapes = _shapes(network, image)
        except Exception as error:  # each network refuses in words of its own
            reason = reason_of(error)
            continue
        if [shape[1:] for shape in shapes] == grids:
            return InputSpec(multiple, False, tuple(shape[0] for shape in shapes))
        if [shape[:2] for shape in shapes] == grids:
            return InputSpec(multiple, True, tuple(shape[2] for shape in shapes))
        reason = "its maps do not fit the image"
    raise DetrLiteError(f"model.backbone: {name} cannot take images of every size ({reason}); choose another")


@torch.no_grad()
def _shapes(network: nn.Module, image: Float[Tensor, "1 3 height width"]) -> list[tuple[int, ...]]:
    was_training = network.training
    network.eval()  # or batch norm would remember the image
    try:
        return [tuple(features.shape[1:]) for features in network(image)]
    finally:
        network.train(was_training)


def _padded(images: Float[Tensor, "batch 3 height width"], multiple: int) -> Tensor:
    """Zeros at the right and bottom, as in a batch: nothing moves."""
    height, width = images.shape[-2:]
    missing = (-height % multiple, -width % multiple)
    return F.pad(images, (0, missing[1], 0, missing[0])) if any(missing) else images


def _reset_zero_init_residuals(network: nn.Module) -> None:
    """Set the scales that residual branches start with to one, where they are zero or tiny.

    timm closes each residual block so (the last norm of a convolutional block; the layer scale of a transformer's, or
    of a ConvNeXt's), which helps very deep networks over many epochs. In a short run the small rate of a scale keeps
    the block's other weights from learning, and a network with one block per stage is little else.
    """
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)
    for module in network.modules():
        if isinstance(module, norms) and module.weight is not None and not module.weight.any():
            nn.init.ones_(module.weight)
    for parameter in network.parameters():
        # Layer scales have many names, but nothing else starts with one tiny number in all its places.
        first = parameter.flatten()[0]
        if parameter.numel() > 1 and 0 < first < 0.01 and (parameter == first).all():
            nn.init.ones_(parameter)
