"""Inference with a trained model: images of any kind in, detections in their pixels out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from detr_lite.build import build_postprocess
from detr_lite.data.images.convert import ImageLike, as_image
from detr_lite.data.images.files import Orientation
from detr_lite.data.transforms import evaluation_transform
from detr_lite.evaluation.postprocess import without_duplicates
from detr_lite.evaluation.tile_grid import check_tiles, needs_tiles, tile_grid
from detr_lite.evaluation.tile_merge import merge_tiles
from detr_lite.families.network import FamilyDetr
from detr_lite.model.detr import Detr
from detr_lite.structures import (
    AttentionMaps,
    AttentionSelection,
    Batch,
    Category,
    Detections,
    DetrLiteError,
    DetrOutput,
)
from detr_lite.text import command_line, reason_of
from detr_lite.weights.any_model import load_predictor
from detr_lite.weights.checkpoint import Description, activation_of
from detr_lite.weights.checkpoint_path import source_name
from detr_lite.weights.onnx_model import OnnxModel
from detr_lite.weights.pretrained_source import load_source

D = TypeVar("D", bound="Detector")  # not Self, which beartype cannot check in a class that it does not decorate


@dataclass(frozen=True)
class Explained:
    """Detections and attention of one image, from the same forward pass."""

    detections: Detections
    attention: AttentionMaps
    """Of a batch of one: `attention.cross[layer, 0, head, query]`, with `query` one of `detections.queries`."""
    boxes_cxcywh: Float[Tensor, "layer 1 query 4"]
    """Every query's box after each decoder layer, relative to the image."""
    by_query: Detections
    """Every query's own box and best class after the last decoder layer, in the order of the queries."""
    logits: Float[Tensor, "layer 1 query logit"]
    """Every query's after each decoder layer: one for each class, then that of the background, if the model has one."""


@dataclass(frozen=True)
class _Prepared:
    """A preprocessed image."""

    pixels: Tensor
    original_size: tuple[int, int]
    """(height, width) in pixels; detections are in these."""


class Detector:
    """Detects objects in images.

        detector = Detector.from_checkpoint("best.ckpt")
        detections = detector("photo.jpg").above(0.5)
        detections = detector("photo.jpg").above(detector.best_scores)  # of each class its own

    An image is a path, a Pillow image of any mode, an array (height width) or (height width 1|3|4) of uint8, uint16 or
    float 0 .. 1, or a tensor (3 height width) of uint8 or float 0 .. 1. The EXIF orientation is applied, and boxes are
    in pixels of the upright image, unless the model was trained with `data.orientation` "stored".

    With `nms`, an IoU, a detection that overlaps a higher-scoring one of its class by more is removed.

    With `tile`, pictures larger than so many pixels are detected in tiles that overlap by the share `overlap`, and as a
    whole: objects of a few pixels are found in the tiles, large ones in the whole picture (`merge_tiles`). `attend` and
    `explain` see the whole picture.
    """

    def __init__(
        self,
        model: Detr | FamilyDetr | OnnxModel,
        description: Description,
        device: torch.device | str = "cpu",
        nms: float | None = None,
        tile: int | None = None,
        overlap: float = 0.2,
    ) -> None:
        check_tiles(tile, overlap)
        self.tile, self.overlap = tile, overlap
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.description = description
        self.orientation: Orientation = description.config.data.orientation or "upright"
        self.transform = evaluation_transform(description.resize, description.mean, description.std)
        self.postprocess = build_postprocess(
            description.config.model,
            self.class_names,
            model.activation if isinstance(model, OnnxModel) else activation_of(description),
            nms,
            [category.id for category in self.categories],
        )

    @classmethod
    def from_checkpoint(
        cls: type[D],
        path: Path | str,
        device: torch.device | str = "auto",
        nms: float | None = None,
        tile: int | None = None,
        overlap: float = 0.2,
    ) -> D:
        """Load a checkpoint, which contains all that inference needs.

        Args:
            path: a checkpoint of detr_lite or an exported one, also as ONNX, a run folder, whose best checkpoint is
                taken, "hf:NAME" for a detector of transformers on the Hugging Face hub, or a folder of
                `save_pretrained`.
            device: "cpu", "cuda", "cuda:1" ...; "auto" is a GPU if there is one.
            nms: IoU from 0 to 1 above which of two detections of a class the lower-scoring is removed, such as 0.7.
            tile: pixels of a tile, at least 32; objects should have about the size that they had in training, so the
                image size of training is a good one.
            overlap: share of a tile that its neighbor also shows, from 0 to less than 1; objects that are smaller than
                this are whole in some tile.

        Errors: not a checkpoint of detr_lite, a device that is not available, an IoU outside 0 .. 1, impossible tiles.
        """
        device = choose_device(device)  # before the checkpoint is read, which takes longer
        check_tiles(tile, overlap)
        return cls(*load_predictor(path), device, nms, tile, overlap)

    @classmethod
    def from_pretrained(
        cls: type[D],
        name: str | Path,
        device: torch.device | str = "auto",
        nms: float | None = None,
        tile: int | None = None,
        overlap: float = 0.2,
    ) -> D:
        """A detector of transformers, in any of its DETR families, with sizes and class names of its own.

            detector = Detector.from_pretrained("ustc-community/dfine-small-coco")

        Args:
            name: on the Hugging Face hub, or a folder that `save_pretrained` has written.
            device: as in `from_checkpoint`, and so are `nms`, `tile` and `overlap`.

        Errors: those of `detr_lite.weights.pretrained_source.load_source`.
        """
        device = choose_device(device)
        return cls(*load_source(source_name(name)), device, nms, tile, overlap)

    @property
    def categories(self) -> tuple[Category, ...]:
        """The category of each label, with the id of the dataset that the model was trained on."""
        return self.description.categories

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(category.name for category in self.categories)

    @property
    def thresholds(self) -> dict[str, float] | None:
        """The score of highest F1 of each class, by its name, if the checkpoint has them: those of a finished run do.

        They were measured on the run's validation images.
        """
        thresholds = self.description.thresholds
        return None if thresholds is None else dict(zip(self.class_names, thresholds.per_class, strict=True))

    @property
    def best_scores(self) -> tuple[float, ...]:
        """The `thresholds` by label, for `Detections.above`.

            detections = detector("photo.jpg").above(detector.best_scores)

        Errors: a checkpoint without thresholds.
        """
        if self.description.thresholds is None:
            raise DetrLiteError(
                "this checkpoint has no score thresholds, which the end of a training run stores; give a score, or "
                f"read those that {command_line('evaluate')} writes to evaluation/thresholds.json"
            )
        return self.description.thresholds.per_class

    @overload
    def __call__(self, images: ImageLike, batch_size: int = 8) -> Detections: ...

    @overload
    def __call__(self, images: list[Any] | tuple[Any, ...], batch_size: int = 8) -> list[Detections]: ...

    def __call__(self, images: Any, batch_size: int = 8) -> Any:
        """Detections of one image; for a list of images, of any kinds and sizes, a list of detections.

        All candidates in descending order of scores, however low: `detections.above(0.5)` applies a threshold.

        `batch_size` images are read at a time, and those that have the same size after resizing are processed in one
        batch. Images are not padded to a common size, as padding changes the result (a normalization over the whole
        image includes it). So detections do not depend on the other images, up to floating-point rounding.

        Errors: something that is not an image, with its type and its index in the list.
        """
        if batch_size < 1:
            raise DetrLiteError(f"batch_size is {batch_size}; it must be at least 1")
        if not isinstance(images, list | tuple):
            return self._detect([self._open(images)], batch_size)[0]
        detections: list[Detections] = []
        for start in range(0, len(images), batch_size):
            some = enumerate(images[start : start + batch_size], start)
            detections += self._detect([self._open(image, f"images[{index}]: ") for index, image in some], batch_size)
        return detections

    def attend(self, image: ImageLike, selection: AttentionSelection | None = None) -> AttentionMaps:
        """Attention maps of one image: a batch of one, on the CPU.

            maps = detector.attend("photo.jpg")
            maps.cross[layer, 0, head, query]    # a weight for each token of the image

        Args:
            selection: which layers, heads and queries; by default all, which takes 4 bytes for each of the `layers x
                heads x queries x (tokens + queries)` weights of the decoder and the `layers x heads x tokens x tokens`
                weights of the encoder, there of the coarsest level's tokens alone.

        Errors: something that is not an image; a layer, head or query that the model does not have.
        """
        return self.explain(image, selection).attention

    def explain(self, image: ImageLike, selection: AttentionSelection | None = None) -> Explained:
        """Detections of one image with the attention of the same forward pass; `selection` is that of `attend`."""
        prepared = self._prepare(self._open(image))
        output = self._forward([prepared], need_attention=True if selection is None else selection)
        assert output.attention is not None
        sizes = [prepared.original_size]
        (detections,), (by_query,) = self.postprocess(output, sizes), self.postprocess.by_query(output, sizes)
        return Explained(
            detections,
            output.attention.to("cpu"),
            output.boxes_cxcywh.float().cpu(),
            by_query,
            output.logits.float().cpu(),
        )

    def _open(self, given: Any, prefix: str = "") -> Image.Image:
        """`prefix` is that of an error message."""
        try:
            return as_image(given, self.orientation)
        except DetrLiteError as error:
            raise DetrLiteError(f"{prefix}{error}") from error

    def _prepare(self, image: Image.Image) -> _Prepared:
        return _Prepared(self.transform(image), (image.height, image.width))

    def _detect(self, images: Sequence[Image.Image], batch_size: int) -> list[Detections]:
        is_tiled = [needs_tiles(image.height, image.width, self.tile) for image in images]
        small = [self._prepare(image) for image, tiled in zip(images, is_tiled, strict=True) if not tiled]
        whole = iter(self._detect_whole(small))
        return [
            self._detect_tiled(image, batch_size) if tiled else next(whole)
            for image, tiled in zip(images, is_tiled, strict=True)
        ]

    def _detect_tiled(self, image: Image.Image, batch_size: int) -> Detections:
        """`batch_size` tiles at a time, so that the memory does not grow with the picture."""
        assert self.tile is not None
        size = (image.height, image.width)
        frames = tile_grid(*size, self.tile, self.overlap)
        views: list[Detections] = []
        for start in range(0, len(frames), batch_size):
            tiles = [image.crop(tuple(frame)) for frame in frames[start : start + batch_size].tolist()]
            views += self._detect_whole([self._prepare(tile) for tile in tiles])
        views += self._detect_whole([self._prepare(image)])
        merged = merge_tiles(views, np.concatenate([frames, [[0, 0, image.width, image.height]]]), size)
        if self.postprocess.nms is not None:
            merged = merged[without_duplicates(merged.boxes_xyxy, merged.scores, merged.labels, self.postprocess.nms)]
        return merged

    def _detect_whole(self, images: Sequence[_Prepared]) -> list[Detections]:
        by_size: dict[torch.Size, list[int]] = {}
        for index, image in enumerate(images):
            by_size.setdefault(image.pixels.shape, []).append(index)
        detections: dict[int, Detections] = {}
        for indices in by_size.values():
            batch = [images[index] for index in indices]
            results = self.postprocess(self._forward(batch), [image.original_size for image in batch])
            detections.update(zip(indices, results, strict=True))
        return [detections[index] for index in range(len(images))]

    # Not inference_mode, whose tensors an application could not modify in place.
    @torch.no_grad()
    def _forward(self, images: Sequence[_Prepared], need_attention: bool | AttentionSelection = False) -> DetrOutput:
        batch = Batch.from_images([image.pixels for image in images]).to(self.device)
        output: DetrOutput = self.model(batch, need_attention=need_attention)
        return output


def choose_device(name: torch.device | str = "auto") -> torch.device:
    """The device of that name; "auto" is a GPU if there is one. Errors: a device that is not available."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        raise DetrLiteError(
            f'device "{name}" cannot be used here ({reason_of(error)}); give "auto" or "cpu"'
        ) from error
    return device
