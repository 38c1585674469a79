"""Detect objects with an exported model.onnx. It needs numpy, Pillow and onnxruntime, and nothing else.

    python detect.py photo.jpg
    python detect.py photos/*.jpg --threshold 0.4 --output drawn

In a program:

    detector = OnnxDetector("model.onnx")
    for box, score, label in detector("photo.jpg").above(0.5):
        print(detector.class_names[label], score, box)
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps

METADATA = "detr_lite"
"""Key of the model's metadata: a JSON object, the same as model.json."""


@dataclass(frozen=True)
class Detections:
    """Detections of one image, in descending order of scores."""

    boxes_xyxy: np.ndarray
    """(detection, 4) float32: left, top, right, bottom, in pixels of the image."""
    scores: np.ndarray
    """(detection) float32, from 0 to 1."""
    labels: np.ndarray
    """(detection) int64: places in `OnnxDetector.class_names`."""

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[tuple[np.ndarray, float, int]]:
        """Box, score and label of each detection."""
        return zip(self.boxes_xyxy, self.scores.tolist(), self.labels.tolist(), strict=True)

    def above(self, threshold: float | Sequence[float]) -> "Detections":
        """Those whose score is at least `threshold`: one score, or one for each class, by label."""
        least = np.asarray(threshold, dtype=np.float32)
        kept = self.scores >= (least if least.ndim == 0 else least[self.labels])
        return Detections(self.boxes_xyxy[kept], self.scores[kept], self.labels[kept])


class OnnxDetector:
    """An exported detector.

    Args:
        path: of the model.onnx; its metadata hold class names, resize rule and score thresholds.
        threads: for onnxruntime; by default it takes one for each core.
        providers: onnxruntime's execution providers, such as ["CUDAExecutionProvider"]; by default the CPU.

    Errors: `ValueError` for a file that is not such a model, `FileNotFoundError` for none.
    """

    def __init__(self, path: str | Path = "model.onnx", threads: int | None = None, providers: Any = None) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: there is no such file")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=providers or ["CPUExecutionProvider"]
            )
            text = self.session.get_modelmeta().custom_metadata_map[METADATA]
        except KeyError as error:
            raise ValueError(f"{path}: not exported by detr_lite; its metadata lack {METADATA!r}") from error
        except Exception as error:  # onnxruntime's own exceptions have no common type
            raise ValueError(f"{path}: not readable as an ONNX model ({' '.join(str(error).split())})") from error
        self.metadata: dict[str, Any] = json.loads(text)
        self.class_names: tuple[str, ...] = tuple(each["name"] for each in self.metadata["classes"])
        self.category_ids: tuple[int, ...] = tuple(each["id"] for each in self.metadata["classes"])
        thresholds = self.metadata["thresholds"]
        self.best_score: float | None = None if thresholds is None else thresholds["overall"]
        """The score of highest F1 on the validation images, for all classes together."""
        self.best_scores: tuple[float, ...] | None = None if thresholds is None else tuple(thresholds["per_class"])
        """Of each class its own, by label, for `Detections.above`."""

    def __call__(self, image: str | Path | Image.Image | np.ndarray) -> Detections:
        """All detections of an image, however low their score: a path, a Pillow image, or an array (height, width, 3)
        of uint8 RGB."""
        rgb = as_rgb(image, self.metadata["orientation"])
        height, width = target_size(self.metadata["resize"], rgb.height, rgb.width)
        pixels = resize(rgb, height, width, self.metadata["resize"])
        boxes, scores, labels = self.run(pixels[None])
        scale = np.array([rgb.width / width, rgb.height / height] * 2, dtype=np.float32)
        limits = np.array([rgb.width, rgb.height] * 2, dtype=np.float32)
        return Detections((boxes[0] * scale).clip(0, limits), scores[0], labels[0])

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (image, detection, 4) in pixels of the input, scores and labels of images of the model's size.

        Args:
            pixels: (image, height, width, 3) RGB, of the model's input type: uint8, of few models float32 0 .. 255.
        """
        boxes, scores, labels = self.session.run(["boxes", "scores", "labels"], {"images": pixels})
        return boxes, scores, labels


def as_rgb(given: str | Path | Image.Image | np.ndarray, orientation: str = "upright") -> Image.Image:
    """8-bit RGB, turned by the EXIF orientation unless it is to stay as "stored"."""
    if isinstance(given, np.ndarray):
        if given.dtype != np.uint8 or given.ndim not in (2, 3) or 0 in given.shape:
            raise ValueError(f"an array {given.shape} of {given.dtype} is no image; give (height, width, 3) of uint8")
        given = Image.fromarray(given[..., 0] if given.ndim == 3 and given.shape[2] == 1 else given)
    image = given if isinstance(given, Image.Image) else Image.open(given)
    if orientation == "upright":
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """More than 8 bits: the full range is the smallest of 8, 10, 12, 14 and 16 bits that holds the largest value, of
    floats 0 .. 1 or 0 .. 255, and otherwise from the smallest to the largest value."""
    values = pixels.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if pixels.dtype.kind == "f":
        if low >= -1e-3 and high <= 1 + 1e-3:
            low, high = 0.0, 1.0
        elif low >= -0.5 and high <= 255.5:
            low, high = 0.0, 255.0
    elif low >= 0 and high < 2**16:
        low, high = 0.0, 2.0 ** next(bits for bits in (8, 10, 12, 14, 16) if high < 2**bits) - 1
    scale = high - low if high > low else 1.0
    return ((values - low) / scale * 255).clip(0, 255).round().astype(np.uint8)


def target_size(rule: dict[str, Any], height: int, width: int) -> tuple[int, int]:
    """(height, width) after resizing by a rule.

    longest: a longer side of at most `size`. fit: a longer side of `size`. shortest: a shorter side of `size`, or a
    longer one of `max_size` if that is smaller. stretch: `size` x `size`, or `size` x `max_size`.
    """
    kind, size, limit = rule["kind"], rule["size"], rule.get("max_size")
    if kind == "stretch":
        return size, limit or size
    short, long = sorted((height, width))
    if kind == "shortest" and rule.get("rounds_shorter"):
        exact = limit * short / long if limit is not None and long / short * size > limit else float(size)
        new_short = max(1, round(exact))
        short, long = new_short, long if new_short == short else int(exact * long / short)
    elif kind == "shortest":
        short, long = size, int(size * long / short)
        if limit is not None and long > limit:
            short, long = int(limit * short / long), limit
    elif kind == "fit" or long > size:
        short, long = int(size * short / long), size
    short = max(short, 1)
    return (short, long) if height <= width else (long, short)


def resize(image: Image.Image, height: int, width: int, rule: dict[str, Any]) -> np.ndarray:
    """(height, width, 3) of uint8, or of float32 0 .. 255 where a rule without "antialias" asks for it."""
    kind = rule.get("interpolation", "bilinear")
    if rule.get("antialias", True) and kind != "nearest":
        filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        return np.asarray(image.resize((width, height), filters[kind]))
    pixels = np.asarray(image)
    if kind == "nearest":
        rows, columns = (np.arange(new) * old // new for new, old in ((height, image.height), (width, image.width)))
        return np.ascontiguousarray(pixels[rows[:, None], columns])
    if kind != "bilinear":
        raise ValueError(f"{kind} interpolation without antialiasing is not supported")
    values = pixels.astype(np.float32)
    for axis, new in ((0, height), (1, width)):
        old = values.shape[axis]
        place = np.maximum((np.arange(new, dtype=np.float32) + 0.5) * (old / new) - 0.5, 0)
        low = place.astype(int)
        share = (place - low).reshape([-1 if each == axis else 1 for each in range(3)]).astype(np.float32)
        values = values.take(low, axis) * (1 - share) + values.take(np.minimum(low + 1, old - 1), axis) * share
    return values


def draw(image: Image.Image, detections: Detections, class_names: Sequence[str]) -> Image.Image:
    """A copy of the image with boxes, class names and scores."""
    drawn = image.copy()
    pen = ImageDraw.Draw(drawn)
    for box, score, label in detections:
        left, top, right, bottom = box.tolist()
        pen.rectangle((left, top, right, bottom), outline="red", width=2)
        pen.text((left + 3, top + 1), f"{class_names[label]} {score:.2f}", fill="red")
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description="Detect objects: one line of JSON for each image.")
    parser.add_argument("images", nargs="+", type=Path, help="image files")
    parser.add_argument("--model", type=Path, default=Path(__file__).with_name("model.onnx"), help="the exported model")
    scores = "minimum score (default: of each class the one of highest F1 on the validation images, else 0.5)"
    parser.add_argument("--threshold", type=float, help=scores)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="also draw the detections, into this folder")
    arguments = parser.parse_args()
    detector = OnnxDetector(arguments.model)
    default = 0.5 if detector.best_scores is None else detector.best_scores
    for path in arguments.images:
        image = as_rgb(path, detector.metadata["orientation"])
        found = detector(image).above(default if arguments.threshold is None else arguments.threshold)
        rows = [
            {"class": detector.class_names[label], "score": round(score, 4), "box": [round(x, 1) for x in box.tolist()]}
            for box, score, label in found
        ]
        print(json.dumps({"file": str(path), "detections": rows}))
        if arguments.output is not None:
            arguments.output.mkdir(parents=True, exist_ok=True)
            draw(image, found, detector.class_names).save(arguments.output / f"{path.stem}.png")


if __name__ == "__main__":
    main()
