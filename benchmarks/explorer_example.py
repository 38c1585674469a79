"""A page of the explorer of any size: drawn images, seen by `lite` with random weights."""

from pathlib import Path

import torch
from PIL import Image

from detr_lite.box_ops import xywh_to_xyxy
from detr_lite.build import build_model
from detr_lite.config import Config, ModelConfig
from detr_lite.data.synthetic.rendering import DrawnImage, draw_image
from detr_lite.data.transforms import MEAN, STD, ResizeRule
from detr_lite.detector import Detector
from detr_lite.structures import Category, Detections
from detr_lite.training.explorer_page import explain_image, pack_explained, write_explorer
from detr_lite.weights.checkpoint import Description

PIXELS = 320
"""Longer side of the images that the model sees."""
LARGEST_IMAGE = 1_000_000
"""Bytes of an image in the page."""


def write_example(path: Path, images: int, queries: int, classes: int) -> Path:
    """Write the page, which shows all detections from the start."""
    torch.manual_seed(0)
    config = Config(model=ModelConfig(backbone="resnet18", pretrained=False, num_queries=queries))
    categories = tuple(Category(number + 1, f"class {number}") for number in range(classes))
    model = build_model(config.model, classes)
    detector = Detector(model, Description(config, categories, ResizeRule("longest", PIXELS), MEAN, STD))
    for name, parameter in model.heads.named_parameters():  # many classes and scores, as a trained model has
        if name.startswith("label") and parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    scenes = []
    for index in range(images):
        drawn = draw_image(0, "val", index)
        image = Image.fromarray(drawn.pixels)
        truth = _truth(drawn, detector.class_names)
        name = f"{index:03}.jpg"
        explained = explain_image(detector, image)
        scenes.append(pack_explained(detector, name, image, explained, truth, None, LARGEST_IMAGE))
    write_explorer(path, scenes, detector.class_names, threshold=0.0)
    return path


def _truth(drawn: DrawnImage, names: tuple[str, ...]) -> Detections:
    objects = [each for each in drawn.scene.objects if not each.is_crowd]
    boxes = xywh_to_xyxy(torch.tensor([each.box_xywh for each in objects], dtype=torch.float).reshape(-1, 4))
    numbers = torch.arange(len(objects))
    return Detections(boxes, torch.ones(len(objects)), numbers % len(names), numbers, names)
