"""The file of a training step whose numbers were not finite, and its replay on the CPU, module by module."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from detr_lite.build import build_criterion
from detr_lite.drawing.boxes import draw_boxes, fit
from detr_lite.drawing.fonts import draw_text
from detr_lite.io import atomic_write
from detr_lite.loss.criterion import Losses
from detr_lite.structures import Batch, DetrLiteError, DetrOutput, Target
from detr_lite.text import printable, reason_of, shorten_list
from detr_lite.training.input_pictures import input_pictures, unpadded_size
from detr_lite.training.optim import parameter_groups
from detr_lite.viz.sheet import side_by_side
from detr_lite.weights.checkpoint import KEY, Description, load_model, read_checkpoint

FOLDER = "nonfinite"
"""Name of the files' folder in a run folder, and of what such a file holds beyond a checkpoint."""

HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}

PANEL = 320
"""Pixels of a drawn image's longer side."""


@dataclass(frozen=True)
class CapturedBatch:
    """A training batch and its losses."""

    epoch: int
    index: int
    seed: int
    """Of torch's random numbers in this step."""
    parts: dict[str, list[float]]
    """Losses by layer."""
    names: tuple[str, ...]
    """Of the image files."""
    batch: Batch

    def to_dict(self) -> dict[str, Any]:
        assert self.batch.targets is not None
        tensors = {"images": self.batch.images, "is_padding": self.batch.is_padding}
        return {**vars(self), "batch": {**tensors, "targets": [dict(vars(target)) for target in self.batch.targets]}}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "CapturedBatch":
        """Errors: AttributeError, KeyError, TypeError or ValueError for content that is incomplete or inconsistent."""
        batch = values["batch"]
        targets = tuple(Target(**{**target, "image_id": int(target["image_id"])}) for target in batch["targets"])
        images, is_padding = batch["images"], batch["is_padding"]
        if images.ndim != 4 or is_padding.shape != (len(targets), *images.shape[2:]):
            raise ValueError("images, padding and targets do not fit together")
        if len(values["names"]) != len(targets):
            raise ValueError("as many images as names are needed")
        if not all(target.boxes_cxcywh.shape == (len(target.labels), 4) for target in targets):
            raise ValueError("boxes and labels do not fit together")
        if not all(name.isidentifier() for name in values["parts"]):  # they are printed
            raise ValueError("invalid names of losses")
        values = {**values, **{name: int(values[name]) for name in ("epoch", "index", "seed")}}
        values["parts"] = {name: [float(value) for value in layers] for name, layers in values["parts"].items()}
        names = tuple(printable(name) for name in values["names"])
        return CapturedBatch(**{**values, "names": names, "batch": Batch(images, is_padding, targets)})


@dataclass(frozen=True)
class NaNCapture:
    """A step of one rank that was not applied, as tensors and plain types."""

    step: int
    rank: int
    world_size: int
    precision: str
    """As Lightning names it."""
    device: str
    batches: tuple[CapturedBatch, ...]

    def write(self, path: Path, description: Description, weights: dict[str, Tensor]) -> None:
        """Write a checkpoint of these weights with the step beside them."""
        content = {
            KEY: description.to_dict(),
            "state_dict": {name: value.detach().cpu() for name, value in weights.items()},
            FOLDER: {**vars(self), "batches": [batch.to_dict() for batch in self.batches]},
        }
        atomic_write(path, lambda file: torch.save(content, file))

    @staticmethod
    def read(path: Path) -> "NaNCapture":
        """Errors: those of `read_checkpoint`, and a checkpoint without a captured step."""
        values = read_checkpoint(path).get(FOLDER)
        if values is None:
            raise DetrLiteError(
                f"--replay: {path} is a checkpoint, not a captured batch of a run; those are in RUN/{FOLDER}"
            )
        try:
            batches = tuple(CapturedBatch.from_dict(batch) for batch in values["batches"])
            if not batches:
                raise ValueError("no batch")
            whole = {name: int(values[name]) for name in ("step", "rank", "world_size")}
            names = {name: printable(values[name]) for name in ("precision", "device")}
            return NaNCapture(**{**values, **whole, **names, "batches": batches})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DetrLiteError(f"{path}: the step in it is not complete ({reason_of(error)})") from error


def replay(path: Path) -> None:
    """Compute a file's batches again on the CPU, and print what is not finite and in which module it first occurs.

    Draws the images with their ground truth beside the file.

    Errors: as `NaNCapture.read`.
    """
    capture = NaNCapture.read(path)
    model, description = load_model(path)
    model.train()
    rank = f" of rank {capture.rank} of {capture.world_size}" if capture.world_size > 1 else ""
    print(f"step {capture.step}{rank}, trained in {capture.precision} on {capture.device}, replayed on cpu")
    if capture.world_size > 1:
        print("in training the box losses were divided by the mean number of objects of all ranks, here by this rank's")
    if capture.device != "cpu":
        print("denoising queries and dropout differ from training: another device draws other random numbers")
    broken = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if broken:
        print(f"weights not finite before the step: {shorten_list(broken, 3)}")
    is_finite = True
    for place, captured in enumerate(capture.batches):
        print(f"batch {captured.index} of epoch {captured.epoch}, {len(captured.batch.images)} images")
        is_finite &= _replay_batch(model, description, captured, HALF.get(capture.precision))
        drawn = path.with_name(path.stem + (f"-{place + 1}" if len(capture.batches) > 1 else "") + ".png")
        _draw(captured, description, drawn)
        print(f"images drawn in {drawn}")
    if is_finite:
        print("everything is finite in this replay: the fault may depend on the device or on its random numbers")


def _replay_batch(
    model: nn.Module, description: Description, captured: CapturedBatch, half: torch.dtype | None
) -> bool:
    """Print losses and gradients of a batch; returns whether all of them are finite."""
    assert captured.batch.targets is not None
    criterion = build_criterion(description.config, len(description.categories), description.architecture)
    model.zero_grad(set_to_none=True)
    torch.manual_seed(captured.seed)
    with torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None, cache_enabled=False):
        with record_activations(model) as activations:
            output = model(captured.batch)
        losses = criterion(output, captured.batch.targets)
    _print_images(captured, output, losses)
    _print_losses(losses, captured.parts)
    print(f"activations: {activations.summary()}")
    if not losses.total.isfinite():
        print("gradients not computed: those of a loss that is not finite are not finite either")
        return False
    losses.total.backward()  # type: ignore[no-untyped-call]
    return _print_gradients(model, description)


@dataclass
class Activations:
    """The outputs of the modules, in the order in which these finished."""

    largest: float = 0.0
    largest_in: str = ""
    first_not_finite: str = ""
    """The first module whose output was not finite, and how many of its numbers."""

    def record(self, name: str, output: Any) -> None:
        if self.first_not_finite:
            return
        for tensor in _tensors(output):
            is_finite = tensor.isfinite()
            if not is_finite.all():
                count = f"{int((~is_finite).sum())} of {tensor.numel()} numbers"
                self.first_not_finite = f"{name}: {count} are not finite"
                return
            largest = float(tensor.abs().max()) if tensor.numel() else 0.0
            if largest > self.largest:
                self.largest, self.largest_in = largest, name

    def summary(self) -> str:
        if not self.largest:
            return f"{self.first_not_finite}, in the first of all modules"
        before = " before it" if self.first_not_finite else ""
        return (
            f"{self.first_not_finite or 'all are finite'}; the largest{before} is {self.largest:.3g}, "
            f"in {self.largest_in}"
        )


@contextlib.contextmanager
def record_activations(model: nn.Module) -> Iterator[Activations]:
    """Record the outputs of all modules in a forward pass, children before their parents."""
    activations = Activations()
    hooks = [
        module.register_forward_hook(lambda _module, _in, out, name=name: activations.record(name or "model", out))
        for name, module in model.named_modules()
        if not getattr(module, "masks_padding", False)  # there infinity is meant
    ]
    try:
        yield activations
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors in what a module returns."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output.detach()
    elif is_dataclass(output):
        for field in fields(output):
            yield from _tensors(getattr(output, field.name))
    elif isinstance(output, dict | list | tuple):
        for part in output.values() if isinstance(output, dict) else output:
            yield from _tensors(part)


def _print_images(captured: CapturedBatch, output: DetrOutput, losses: Losses) -> None:
    batch = captured.batch
    assert batch.targets is not None
    for place, target in enumerate(batch.targets):
        height, width = unpadded_size(batch, place)
        facts = [f"{width} x {height} pixels"]  # as the model gets it, like the sizes of the objects
        if len(target.labels):
            sizes = target.boxes_cxcywh[:, 2:] * torch.tensor([width, height])
            smallest = sizes[sizes.prod(-1).argmin()].tolist()
            count = "1 object of" if len(sizes) == 1 else f"{len(sizes)} objects, the smallest of"
            facts.append(f"{count} {smallest[0]:.1f} x {smallest[1]:.1f}")
        else:
            facts.append("no objects")
        if not batch.images[place].isfinite().all():
            facts.append("pixels not finite")
        if not target.boxes_cxcywh.isfinite().all():
            facts.append("boxes not finite")
        predictions = (output.logits[:, place], output.boxes_cxcywh[:, place])
        if place in losses.not_finite or not all(prediction.isfinite().all() for prediction in predictions):
            facts.append("predictions not finite")
        print(f"image {captured.names[place]}: {', '.join(facts)}")


def _print_losses(losses: Losses, trained: dict[str, list[float]]) -> None:
    print(f"{'loss':<18} {'layer':>5} {'training':>12} {'replay':>12}")
    for name, layers in losses.parts.items():
        before = trained.get(name, [])
        for layer, value in enumerate(layers.tolist()):
            old = f"{before[layer]:12.6g}" if layer < len(before) else f"{'-':>12}"
            print(f"{name:<18} {layer:>5} {old} {value:12.6g}")


def _print_gradients(model: nn.Module, description: Description) -> bool:
    """By the optimizer's parameter groups; returns whether all are finite."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optim, is_finite = description.config.optim, True
    for group in parameter_groups(model, 1.0, 1.0, optim.weight_decay, optim.decay_all):
        gradients = {names[id(parameter)]: parameter.grad for parameter in group["params"]}
        norm = math.hypot(*(float(value.double().norm()) for value in gradients.values() if value is not None))
        broken = [name for name, value in gradients.items() if value is not None and not value.isfinite().all()]
        which = f", not finite in {len(broken)} of {len(gradients)}: {shorten_list(broken, 3)}" if broken else ""
        print(f"gradients of {group['name']}: norm {norm:.3g}{which}")
        is_finite &= not broken
    return is_finite


def _draw(captured: CapturedBatch, description: Description, path: Path) -> None:
    """The images as the model gets them, without and with their ground truth."""
    batch = captured.batch
    assert batch.targets is not None
    names = [category.name for category in description.categories]
    rows = []
    pictures = input_pictures(batch, description.mean, description.std)
    for place, (target, (image, boxes_xyxy)) in enumerate(zip(batch.targets, pictures, strict=True)):
        large, large_xyxy = fit(image, boxes_xyxy, PANEL)
        caption, marked = captured.names[place], draw_boxes(large, large_xyxy, target.labels, names)
        rows.append((_captioned(large, caption), _captioned(marked, caption)))
    sheet = side_by_side(rows, ("model input", "with ground truth"))
    atomic_write(path, lambda file: sheet.save(file, format="PNG"), durable=False)


def _captioned(image: Image.Image, text: str) -> Image.Image:
    framed = Image.new("RGB", (image.width, image.height + 20), (255, 255, 255))
    framed.paste(image, (0, 20))
    draw_text(ImageDraw.Draw(framed), (2, 2), text, 14, (20, 20, 20))
    return framed
