"""What became of objects, with a model's own matching cost."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from detr_lite.build import build_criterion, build_model, build_resize
from detr_lite.config import Config
from detr_lite.data.transforms import MEAN, STD
from detr_lite.detector import Detector
from detr_lite.loss.matcher import match
from detr_lite.loss.targets import pad_targets
from detr_lite.structures import Category, Detections, Target
from detr_lite.training.object_outcomes import explain_outcome
from detr_lite.weights.checkpoint import Description
from tests.helpers.fake_attention import picture

CATEGORIES = (Category(3, "blue thing"), Category(7, "red thing"), Category(90, "green thing"))


@pytest.fixture
def make_detector(tiny_config: Config) -> Callable[..., Detector]:
    def make(**model_settings: Any) -> Detector:
        config = replace(tiny_config, model=replace(tiny_config.model, **model_settings))
        torch.manual_seed(0)
        model = build_model(config.model, len(CATEGORIES))
        return Detector(model, Description(config, CATEGORIES, build_resize(config.data), MEAN, STD))

    return make


@pytest.mark.parametrize("name", ["lite", "detr"])
@pytest.mark.slow
def test_the_nearest_query_is_the_one_that_training_would_match(make_detector: Callable[..., Detector], name: str):
    """With one object, the matching of the loss takes the query of lowest cost."""
    detector, image = make_detector(name=name), picture()
    explained = detector.explain(image)
    box_xyxy = torch.tensor([[20.0, 20.0, 70.0, 60.0]])
    for label, category in enumerate(CATEGORIES):
        truth = Detections(box_xyxy, torch.ones(1), torch.zeros(1).long(), torch.zeros(1).long(), (category.name,))
        (outcome,) = explain_outcome(detector, explained, truth).objects
        target = Target(
            torch.tensor([[45 / 160, 40 / 120, 50 / 160, 40 / 120]]),
            torch.tensor([label]),
            0,
            (image.height, image.width),
        )
        cost = build_criterion(detector.description.config, len(CATEGORIES)).cost
        matches = match(cost, explained.logits[-1:], explained.boxes_cxcywh[-1:], pad_targets([target]))
        assert matches.query.tolist() == [outcome.query]
        scores = detector.postprocess.scores(explained.logits)[:, 0, outcome.query, label]
        assert [layer.score for layer in outcome.layers] == scores.tolist()


def test_classes_go_by_name(make_detector: Callable[..., Detector]):
    """Those of the annotations are in another order, and one is unknown."""
    detector = make_detector()
    explained = detector.explain(Image.new("RGB", (64, 48), "red"))
    boxes_xyxy = torch.tensor([[0.0, 0.0, 20.0, 20.0], [30.0, 20.0, 60.0, 40.0]])
    truth = Detections(boxes_xyxy, torch.ones(2), torch.tensor([1, 0]), torch.arange(2), ("jug", "Green thing"))
    green, jug = explain_outcome(detector, explained, truth).objects
    assert green.layers[-1].score == float(detector.postprocess.scores(explained.logits)[-1, 0, green.query, 2])
    assert jug.layers[-1].score is None
    assert jug.at(1.0).sentence.startswith("The model has no class jug; ")


def test_without_objects(make_detector: Callable[..., Detector]):
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), torch.zeros(0).long(), ("jug",))
    detector = make_detector()
    outcome = explain_outcome(detector, detector.explain(picture()), nothing)
    assert outcome.objects == ()
    assert set(outcome.kinds) == {"background"}
