"""Attribution of detections through a detector: of our own models, of transformers, and what cannot be attributed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.tiny_families import save_source, tiny_model
from detr_lite.attribution import attribute as module
from detr_lite.attribution.attribute import attribute, attribute_best
from detr_lite.attribution.curves import FRACTIONS
from detr_lite.build import build_model, build_resize
from detr_lite.data.transforms import MEAN, STD
from detr_lite.detector import Detector
from detr_lite.evaluation.attribution import (
    ATTENTION,
    CONTROLS,
    METHODS,
    OCCLUSION,
    AttributionMetrics,
    ImageAttribution,
    compared,
)
from detr_lite.structures import AttentionSelection, Category
from detr_lite.weights.checkpoint import Description

CATEGORIES = (Category(1, "one"), Category(2, "two"), Category(3, "three"))
SELECTION = AttentionSelection(encoder_mean=True, samples_only=True)


@pytest.fixture
def image():
    random = np.random.default_rng(0)
    return Image.fromarray(random.integers(0, 256, (60, 90, 3), dtype=np.uint8))


@pytest.fixture(params=["lite", "detr", "rt_detr", "conditional_detr"])
def detector(request, tiny_config, tmp_path):
    if request.param not in ("lite", "detr"):
        return Detector.from_pretrained(save_source(tiny_model(request.param), tmp_path / "source"))
    torch.manual_seed(0)
    config = replace(tiny_config, model=replace(tiny_config.model, name=request.param))
    model = build_model(config.model, len(CATEGORIES))
    return Detector(model, Description(config, CATEGORIES, build_resize(config.data), MEAN, STD))


@pytest.mark.stress
def test_attribution_of_a_detector(detector, image):
    explained = detector.explain(image, SELECTION)
    found = attribute_best(detector, image, explained, count=2, threshold=0.0)
    best = explained.detections[:1]
    assert len(found.queries) == 2
    assert found.queries[0] == best.queries.item()
    assert found.labels[0] == best.labels.item()
    rows, columns = found.grid
    assert columns == 16
    assert found.occlusion.shape == (2, rows * columns)
    assert found.occlusion.isfinite().all()
    assert found.relevance.shape == (2, explained.attention.cross.shape[-1])
    for curves, first, last in ((found.deletion, 1, None), (found.insertion, None, 1)):
        assert set(curves) == {*METHODS, *CONTROLS}
        for values in curves.values():
            assert values.shape == (2, len(FRACTIONS))
            assert np.isfinite(values).all()
            assert first is None or values[:, 0] == pytest.approx(first)
            assert last is None or values[:, -1] == pytest.approx(last)
    # Whatever the order, all is hidden in the end.
    ends = [values[:, -1] for values in found.deletion.values()]
    assert all(np.array_equal(each, ends[0]) for each in ends)


@pytest.mark.stress
def test_attribution_is_the_same_each_time_and_leaves_the_model_as_it_is(detector, image):
    before = detector(image)
    explained = detector.explain(image, SELECTION)
    first, second = (attribute_best(detector, image, explained, 1, 0.0) for _ in range(2))
    assert torch.equal(first.relevance, second.relevance)
    assert torch.equal(first.occlusion, second.occlusion)
    for name in first.deletion:
        assert np.array_equal(first.deletion[name], second.deletion[name])
    after = detector(image)
    assert torch.equal(before.scores, after.scores)
    assert not any(parameter.grad is not None for parameter in detector.model.parameters())


@pytest.mark.slow
def test_no_detections_cost_no_curves(detector, image):
    found = attribute(detector, image, detector.explain(image, SELECTION), [], [])
    assert found.queries == ()
    assert AttributionMetrics.of([found]).objects == 0


def test_detections_without_score_or_area_are_left_out(tiny_config, image, monkeypatch):
    torch.manual_seed(0)
    config = replace(tiny_config, model=replace(tiny_config.model, name="lite"))
    model = build_model(config.model, len(CATEGORIES))
    detector = Detector(model, Description(config, CATEGORIES, build_resize(config.data), MEAN, STD))
    explained = detector.explain(image, SELECTION)
    best, flat, *others = dict.fromkeys(explained.detections.queries.tolist())
    assert others
    explained.boxes_cxcywh[-1, 0, flat, 2] = 0
    explained.detections.scores[[query in others for query in explained.detections.queries.tolist()]] = 0
    made = attribution_with(areas_of())
    monkeypatch.setattr(module, "attribute", lambda *given: replace(made, queries=(*given[3],), labels=(*given[4],)))
    assert attribute_best(detector, image, explained, 5, 0.0).queries == (best,)
    explained.detections.scores[:] = 0
    assert attribute_best(detector, image, explained, 5, 0.0).queries == ()


def attribution_with(areas):
    """Of one object; curves that have these constant values, by name: (deletion, insertion)."""
    curves = {
        kind: {name: np.full((1, 3), values[number]) for name, values in areas.items()}
        for number, kind in enumerate(("deletion", "insertion"))
    }
    fractions = np.array([0.0, 0.5, 1.0])
    return ImageAttribution((0,), (0,), (1, 1), torch.zeros(1, 1), torch.zeros(1, 1), fractions, **curves)


def areas_of(**changes):
    return {name: changes.get(name, (0.5, 0.5)) for name in (*METHODS, *CONTROLS)}


def test_the_sentence_names_the_best_and_what_the_numbers_do_not_tell_apart():
    random = np.random.default_rng(0)
    images = []
    for _ in range(20):
        noise = 0.01 * random.standard_normal()
        images.append(attribution_with(areas_of(occlusion=(0.1, 0.8 + noise), attention=(0.2, 0.7), box=(0.2, 0.7))))
    metrics = AttributionMetrics.of(images)
    assert metrics.objects == 20
    assert metrics.score(OCCLUSION).mean() == pytest.approx(0.7, abs=0.02)
    assert metrics.sentence() == (
        "occlusion tells best what these scores depend on (small deletion, large insertion); attention is no different "
        "from ordering the image by the distance to the box"
    )
    better = [attribution_with(areas_of(attention=(0.1 + each / 100, 0.9), box=(0.4, 0.6))) for each in range(5)]
    assert "attention is better than ordering" in AttributionMetrics.of(better).sentence()
    assert "occlusion" in metrics.table()
    content = metrics.as_dict()
    assert content["objects"] == 20
    assert content["methods"][ATTENTION]["deletion"] == {"mean": pytest.approx(0.2), "margin": pytest.approx(0)}


def test_nothing_is_best_where_random_order_or_the_box_is_as_good():
    same = AttributionMetrics.of([attribution_with(areas_of(relevance=(0.5, 0.5 + i % 2 / 99))) for i in range(4)])
    attention = "attention is no different from ordering the image by the distance to the box"
    assert same.sentence() == f"as far as 4 detections can tell, no method is better than random order; {attention}"
    one = AttributionMetrics.of([attribution_with(areas_of(occlusion=(0.1, 0.9)))])
    assert one.sentence() == f"as far as 1 detection can tell, no method is better than random order; {attention}"
    box = AttributionMetrics.of([attribution_with(areas_of(occlusion=(0.3, 0.7), box=(0.1, 0.9)))] * 2)
    assert box.sentence() == (
        "occlusion tells best what these scores depend on (small deletion, large insertion); the distance to the box, "
        "which knows nothing of the model, is better than any method"
    )


def test_intervals_of_few_objects_are_those_of_student():
    images = [attribution_with(areas_of(occlusion=(value, 0.5))) for value in (0.1, 0.3)]
    measured = AttributionMetrics.of(images).as_dict()["methods"][OCCLUSION]["deletion"]
    assert measured == {"mean": pytest.approx(0.2), "margin": pytest.approx(12.7062 * 0.1, rel=1e-4)}


def test_few_objects_tell_little():
    one, other = np.array([0.5, 0.9]), np.array([0.4, 0.4])
    assert compared(one, other) == "no different from"
    assert compared(one[:1], other[:1]) == "no different from"
    assert compared(np.array([0.9, 0.91, 0.9]), np.array([0.4, 0.4, 0.41])) == "better than"
    assert compared(np.array([0.4, 0.4, 0.41]), np.array([0.9, 0.91, 0.9])) == "worse than"
