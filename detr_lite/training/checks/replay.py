"""A batch that a run put aside because something was not finite: computed again, part by part, and drawn."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.build import build_criterion
from detr_lite.io import atomic_write
from detr_lite.loss.criterion import Losses
from detr_lite.structures import Batch, DetrOutput
from detr_lite.training.checks.nan_capture import CapturedBatch, NaNCapture
from detr_lite.training.optim import parameter_groups
from detr_lite.viz.draw import draw_boxes, fit, side_by_side
from detr_lite.weights.checkpoint import Description, load_model

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}

PANEL = 320
"""Pixels of a drawn image's longer side."""


def replay(path: Path) -> None:
    """Compute the batches in the file once more, on the processor, and print what is not finite and where it arises.

    Draws the images with their true boxes beside the file.

    Errors: a file that is missing, or not of this kind.
    """
    kept = NaNCapture.read(path)
    model, description = load_model(path)
    model.train()
    rank = f" of rank {kept.rank} of {kept.world_size}" if kept.world_size > 1 else ""
    print(f"step       {kept.step}{rank}, {kept.precision} on {kept.device}; now on the processor")
    if kept.world_size > 1:
        print("note       then l1, giou and the like were divided by the mean number of objects of all ranks")
    if kept.device != "cpu":
        print("note       noisy queries and dropout differ: another device draws other random numbers")
    _say_weights(model)
    is_finite = True
    for place, batch in enumerate(kept.batches):
        print(f"batch      {batch.index} of epoch {batch.epoch}, {len(batch.batch.images)} images")
        is_finite &= _compute(model, description, batch, HALF.get(kept.precision))
        drawn = path.with_name(path.stem + (f"-{place + 1}" if len(kept.batches) > 1 else "") + ".png")
        _draw(batch.batch, description, drawn)
        print(f"look at    {drawn}")
    if is_finite:
        print("finite     everything is, this time: it may need the hardware, or the random numbers, of then")


def _compute(model: nn.Module, description: Description, kept: CapturedBatch, half: torch.dtype | None) -> bool:
    """Loss and gradients of a batch in words; whether all of them are finite."""
    assert kept.batch.targets is not None
    criterion = build_criterion(description.config, len(description.categories))
    model.zero_grad(set_to_none=True)
    torch.manual_seed(kept.seed)
    with torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None, cache_enabled=False):
        with watched(model) as watch:
            output = model(kept.batch)
        losses = criterion(output, kept.batch.targets)
    _say_images(kept.batch, output, losses)
    _say_parts(losses, kept.parts)
    print(f"activation {watch.in_words()}")
    if not losses.total.isfinite():
        print("gradient   not computed: of a loss that is not finite it is not finite either")
        return False
    losses.total.backward()  # type: ignore[no-untyped-call]
    return _say_gradients(model, description)


@dataclass
class Watch:
    """What the modules gave, in the order in which they finished."""

    largest: float = 0.0
    where: str = ""
    broken: str = ""
    """The first module whose output was not finite, and what of it."""

    def see(self, name: str, output: Any) -> None:
        if self.broken:
            return
        for tensor in _tensors(output):
            is_finite = tensor.isfinite()
            if not is_finite.all():
                share = f"{int((~is_finite).sum())} of {tensor.numel()} numbers"
                self.broken = f"{name}: {share} are not finite"
                return
            largest = float(tensor.abs().max()) if tensor.numel() else 0.0
            if largest > self.largest:
                self.largest, self.where = largest, name

    def in_words(self) -> str:
        before = f"the largest{' before it' if self.broken else ''} is {self.largest:.3g}, of {self.where}"
        if not self.largest:
            return f"{self.broken}, the first of all"
        return f"{self.broken or 'every module gives finite numbers'}; {before}"


@contextlib.contextmanager
def watched(model: nn.Module) -> Iterator[Watch]:
    """Follow a forward pass through all modules, the inner ones before those that they are part of."""
    watch = Watch()
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: watch.see(name or "model", output))
        for name, module in model.named_modules()
        if not getattr(module, "masks_padding", False)  # there infinity is meant
    ]
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(output: Any) -> Iterator[Tensor]:
    """The numbers in what a module returns."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output.detach()
    elif is_dataclass(output):
        for field in fields(output):
            yield from _tensors(getattr(output, field.name))
    elif isinstance(output, dict | list | tuple):
        for part in output.values() if isinstance(output, dict) else output:
            yield from _tensors(part)


def _say_weights(model: nn.Module) -> None:
    broken = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if broken:
        print(f"weights    not finite already before the step: {_some(broken)}")


def _say_images(batch: Batch, output: DetrOutput, losses: Losses) -> None:
    assert batch.targets is not None
    for place, target in enumerate(batch.targets):
        height, width = _size(batch, place)
        facts = [f"{width} x {height} pixels"]  # as the model gets it, which the objects' sizes are in too
        if len(target.labels):
            sizes = target.boxes_cxcywh[:, 2:] * torch.tensor([width, height])
            smallest = sizes[sizes.prod(-1).argmin()].tolist()
            count = "1 object, it has" if len(sizes) == 1 else f"{len(sizes)} objects, the smallest has"
            facts.append(f"{count} {smallest[0]:.1f} x {smallest[1]:.1f}")
        else:
            facts.append("no objects")
        if not batch.images[place].isfinite().all():
            facts.append("its pixels are not finite")
        if not target.boxes_cxcywh.isfinite().all():
            facts.append("its boxes are not finite")
        answers = (output.logits[:, place], output.boxes_cxcywh[:, place])
        if place in losses.not_finite or not all(answer.isfinite().all() for answer in answers):
            facts.append("its answers are not finite")
        print(f"image      {target.image_id}: {', '.join(facts)}")


def _say_parts(losses: Losses, before: dict[str, list[float]]) -> None:
    print(f"loss       {'part':<18} {'layer':>5} {'then':>12} {'now':>12}")
    for name, layers in losses.parts.items():
        then = before.get(name, [])
        for layer, value in enumerate(layers.tolist()):
            seen = f"{then[layer]:12.6g}" if layer < len(then) else f"{'-':>12}"
            print(f"           {name:<18} {layer:>5} {seen} {value:12.6g}")


def _say_gradients(model: nn.Module, description: Description) -> bool:
    """By the optimiser's groups; whether all are finite."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optim, is_finite = description.config.optim, True
    for group in parameter_groups(model, 1.0, 1.0, optim.weight_decay, optim.decay_all):
        gradients = {names[id(parameter)]: parameter.grad for parameter in group["params"]}
        norm = math.hypot(*(float(value.double().norm()) for value in gradients.values() if value is not None))
        broken = [name for name, value in gradients.items() if value is not None and not value.isfinite().all()]
        what = f", not finite in {len(broken)} of {len(gradients)}: {_some(broken)}" if broken else ""
        print(f"gradient   {group['name']}: norm {norm:.3g}{what}")
        is_finite &= not broken
    return is_finite


def _size(batch: Batch, place: int) -> tuple[int, int]:
    """(height, width) of an image without its padding."""
    is_image = ~batch.is_padding[place]
    return int(is_image.any(1).sum()), int(is_image.any(0).sum())


def _draw(batch: Batch, description: Description, path: Path) -> None:
    """The images as the model gets them, and with their true boxes."""
    assert batch.targets is not None
    names = [category.name for category in description.categories]
    mean, std = (torch.tensor(values)[:, None, None] for values in (description.mean, description.std))
    pairs = []
    for place, target in enumerate(batch.targets):
        height, width = (max(1, side) for side in _size(batch, place))
        pixels = (batch.images[place, :, :height, :width].float() * std + mean).nan_to_num(0, 0, 0).clamp(0, 1)
        image = Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())
        boxes_xyxy = cxcywh_to_xyxy(target.boxes_cxcywh.nan_to_num()) * torch.tensor([width, height, width, height])
        large, large_xyxy = fit(image, boxes_xyxy, PANEL)
        caption = f"image {target.image_id}"
        pairs.append(
            (_captioned(large, caption), _captioned(draw_boxes(large, large_xyxy, target.labels, names), caption))
        )
    sheet = side_by_side(pairs, ("as the model gets it", "with its true boxes"))
    atomic_write(path, lambda file: sheet.save(file, format="PNG"))


def _captioned(image: Image.Image, text: str) -> Image.Image:
    font = ImageFont.load_default(14)
    framed = Image.new("RGB", (image.width, image.height + 20), (255, 255, 255))
    framed.paste(image, (0, 20))
    ImageDraw.Draw(framed).text((2, 2), text, fill=(20, 20, 20), font=font)
    return framed


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
