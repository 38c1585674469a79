"""A trained model as an application holds it: images of any kind in, detections in their own pixels out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor

from detr_lite.build import build_postprocess
from detr_lite.data.images import ImageLike, as_image
from detr_lite.data.transforms import evaluation_transform
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
from detr_lite.text import reason_of
from detr_lite.weights.checkpoint import Description, load_model


@dataclass(frozen=True)
class Explained:
    """What was found in one image and where the model looked, from one and the same pass."""

    detections: Detections
    attention: AttentionMaps
    """Of a batch of one: `attention.cross[layer, 0, head, query]`, with `query` one of `detections.queries`."""
    boxes_cxcywh: Float[Tensor, "layer 1 query 4"]
    """Every query's box after each decoder layer, relative to the image."""


@dataclass(frozen=True)
class _Prepared:
    """An image as the model sees it, and the size that its boxes are to have."""

    pixels: Tensor
    original_size: tuple[int, int]


class Detector:
    """Finds objects in images.

        detector = Detector.from_checkpoint("best.ckpt")
        detections = detector("photo.jpg").above(0.5)

    An image is a path, Pillow's image of any mode, an array (height width) or (height width 1|3|4) of uint8, uint16 or
    float 0 .. 1, or a tensor (3 height width) of uint8 or float 0 .. 1. A camera's orientation tag is followed: boxes
    are in pixels of the image as a viewer shows it.
    """

    def __init__(self, model: Detr, description: Description, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.description = description
        self.transform = evaluation_transform(description.resize, description.mean, description.std)
        self.postprocess = build_postprocess(description.config.model, self.class_names)

    @staticmethod
    def from_checkpoint(path: Path | str, device: torch.device | str = "auto") -> "Detector":
        """The model in a checkpoint; nothing else is needed, from whatever folder.

        Args:
            device: "cpu", "cuda", "cuda:1" ...; "auto" is a GPU if there is one.

        Errors: no checkpoint of ours, a device that is not there.
        """
        require = choose_device(device)  # before the work of reading
        return Detector(*load_model(Path(path)), require)

    @property
    def categories(self) -> tuple[Category, ...]:
        """The category of each label, under the id of the data set that the model was trained on."""
        return self.description.categories

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(category.name for category in self.categories)

    @overload
    def __call__(self, images: ImageLike, batch_size: int = 8) -> Detections: ...

    @overload
    def __call__(self, images: list[Any] | tuple[Any, ...], batch_size: int = 8) -> list[Detections]: ...

    def __call__(self, images: Any, batch_size: int = 8) -> Any:
        """Detections of one image; for a list of images, of whatever kinds and sizes, a list of them.

        They are all candidates, best first, however low their scores: `detections.above(0.5)` keeps the good ones.

        `batch_size` images are read at a time, and those of them that have one size after resizing go through the model
        together. Others are not padded to a common size, as padding changes more than the last digits (a normalisation
        over the whole image takes it in). So what is found in an image does not depend on its company, but for the last
        digits of sums that are added up in another order.

        Errors: what is no image, with what it is and its place in the list.
        """
        if batch_size < 1:
            raise DetrLiteError(f"batch_size is {batch_size}; it must be at least 1")
        if not isinstance(images, list | tuple):
            return self._detect([self._prepare(images)])[0]
        found: list[Detections] = []
        for start in range(0, len(images), batch_size):
            places = range(start, min(start + batch_size, len(images)))
            found += self._detect([self._prepare(images[place], f"images[{place}]: ") for place in places])
        return found

    def attend(self, image: ImageLike, choice: AttentionSelection | None = None) -> AttentionMaps:
        """Where queries and tokens look in one image; a batch of one, on the CPU.

            maps = detector.attend("photo.jpg")
            maps.cross[layer, 0, head, query]    # a weight for each token of the image

        Args:
            choice: which layers, heads and queries; by default all. That is `layers x heads x (tokens + queries) x
                queries` numbers of 4 bytes for the decoder, and `layers x heads x tokens x tokens` of the coarsest
                level's tokens for the encoder, while only one layer's are held twice.

        Errors: what is no image, a layer, head or query that the model does not have.
        """
        return self.explain(image, choice).attention

    def explain(self, image: ImageLike, choice: AttentionSelection | None = None) -> Explained:
        """Detections of one image together with the attention that they came from; `choice` is that of `attend`."""
        prepared = self._prepare(image)
        output = self._forward([prepared], need_attention=True if choice is None else choice)
        assert output.attention is not None
        (detections,) = self.postprocess(output, [prepared.original_size])
        return Explained(detections, output.attention.to("cpu"), output.boxes_cxcywh.float().cpu())

    def _prepare(self, given: Any, place: str = "") -> _Prepared:
        """`place` begins the message of an error."""
        try:
            image = as_image(given)
        except DetrLiteError as error:
            raise DetrLiteError(f"{place}{error}") from error
        return _Prepared(self.transform(image), (image.height, image.width))

    def _detect(self, images: Sequence[_Prepared]) -> list[Detections]:
        places_of: dict[torch.Size, list[int]] = {}
        for place, image in enumerate(images):
            places_of.setdefault(image.pixels.shape, []).append(place)
        found: dict[int, Detections] = {}
        for places in places_of.values():
            alike = [images[place] for place in places]
            detections = self.postprocess(self._forward(alike), [image.original_size for image in alike])
            found.update(zip(places, detections, strict=True))
        return [found[place] for place in range(len(images))]

    # Not inference_mode: what it makes may not be changed in place, which an application may well want to.
    @torch.no_grad()
    def _forward(self, images: Sequence[_Prepared], need_attention: bool | AttentionSelection = False) -> DetrOutput:
        batch = Batch.from_images([image.pixels for image in images]).to(self.device)
        output: DetrOutput = self.model(batch, need_attention=need_attention)
        return output


def choose_device(name: torch.device | str = "auto") -> torch.device:
    """The device of that name; "auto" is a GPU if there is one. Errors: one that cannot compute here."""
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


def check_threshold(threshold: float) -> None:
    """Errors: a least score that is none."""
    if not 0 <= threshold <= 1:
        raise DetrLiteError(f"--threshold is {threshold}; it must be from 0 to 1")
