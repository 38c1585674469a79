"""An image's scores are its own: alone, in the batches of an evaluation, in a validation step and from `Detector`."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from torch import nn

from benchmarks.tiny_families import tiny_model
from detr_lite.build import build_model, build_postprocess, build_resize
from detr_lite.config import Config
from detr_lite.data.reading import read_split
from detr_lite.data.transforms import MEAN, STD
from detr_lite.detector import Detector
from detr_lite.families.network import FamilyDetr
from detr_lite.structures import Batch, Detections
from detr_lite.training.datamodule import make_loader
from detr_lite.training.evaluate import detect
from detr_lite.training.module import DetectionModule
from detr_lite.weights.checkpoint import Description

CPU = torch.device("cpu")
ROUNDING = 1e-5
FAMILY_TOLERANCE = 1e-2
"""Rounding may let RT-DETR select another query of nearly the same score, which changes all others a little."""


@pytest.fixture(params=["lite", "detr", pytest.param("rt_detr_v2", marks=pytest.mark.slow)])
def detector(request: pytest.FixtureRequest, tiny_config: Config, tiny_data: Path) -> Detector:
    """Of random weights, also where heads start at zero."""
    torch.manual_seed(0)
    is_family = request.param not in ("lite", "detr")
    config = tiny_config if is_family else replace(tiny_config, model=replace(tiny_config.model, name=request.param))
    categories = read_split(tiny_data, "val").categories
    model: nn.Module = FamilyDetr(tiny_model(request.param)) if is_family else build_model(config.model, 3)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    detector = Detector(model, Description(config, categories, build_resize(config.data), MEAN, STD))
    if is_family:
        detector.postprocess = build_postprocess(config.model, detector.class_names, "sigmoid")
    return detector


def same(found: dict[int, Detections], expected: dict[int, Detections], tolerance: float) -> bool:
    """Detections whose scores are equal but for rounding may change places."""
    assert found.keys() == expected.keys()
    return all(are_same(found[image], expected[image], tolerance) for image in found)


def are_same(found: Detections, expected: Detections, tolerance: float) -> bool:
    if not torch.allclose(found.scores, expected.scores, atol=tolerance, rtol=0):
        return False
    if tolerance > ROUNDING:  # where another query was selected, boxes are those of another
        return True
    is_other = (found.labels[:, None] != expected.labels) | ((found.scores[:, None] - expected.scores).abs() > ROUNDING)
    apart = (found.boxes_xyxy[:, None] - expected.boxes_xyxy).abs().amax(-1).masked_fill(is_other, torch.inf)
    return bool((apart.amin(0) < 1e-2).all() and (apart.amin(1) < 1e-2).all())


@pytest.mark.slow
def test_scores_do_not_depend_on_the_batch(detector: Detector, tiny_data: Path) -> None:
    val = read_split(tiny_data, "train")  # eight images of five shapes
    resize = detector.description.resize
    tolerance = FAMILY_TOLERANCE if isinstance(detector.model, FamilyDetr) else ROUNDING
    paths = [val.root / "train" / Path(path).name for path in val.images.paths]
    expected = {index: detector(path) for index, path in enumerate(paths)}
    assert same(dict(enumerate(detector(paths))), expected, tolerance)

    loader = make_loader(val, detector.transform, resize, batch_size=4, num_workers=0)
    assert max(len(batch.images) for batch in loader) > 1
    postprocess = detector.postprocess
    assert same(detect(detector.model, postprocess, loader, CPU), expected, tolerance)

    module = DetectionModule(detector.model, MagicMock(), postprocess, val, MagicMock(), max_grad_norm=0.0).eval()
    with torch.no_grad():
        for index, batch in enumerate(loader):
            module.validation_step(batch, index)
    assert same(module.detections, expected, tolerance)

    if isinstance(detector.model, FamilyDetr):
        return  # whose padding changes the scores of random weights by less than the tolerance
    # As in batches of similar shapes; else this test would find nothing.
    batches = list(loader)
    targets = [target for batch in batches for target in batch.targets or ()]
    padded = Batch.from_images([image for batch in batches for image in batch.images], targets)
    with torch.no_grad():
        found = postprocess(detector.model(padded), [target.original_size for target in targets])
    assert not same(dict(zip((target.image_id for target in targets), found, strict=True)), expected, tolerance)
