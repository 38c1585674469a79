"""Relevance, occlusion and their curves in the explorer's data: exact, without padding, within the budget."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detr_lite.evaluation.attribution import area_under
from detr_lite.viz.explorer.attribution import LEFT_OUT, pack_attribution
from detr_lite.viz.explorer.models import ExploredModel
from detr_lite.viz.explorer.page import explorer_page
from detr_lite.viz.explorer.scene import pack_scene
from tests.helpers.fake_attention import NAMES, found, maps, picture
from tests.helpers.fake_attribution import FRACTIONS, attribution
from tests.viz.test_explorer import assert_exact, metadata_in, rows_in


def pack(given, attention=None, **options):
    return pack_scene("a.jpg", picture(), found(), attention or maps(), attribution=given, **options)


def test_maps_are_exact_and_what_raises_the_score_is_0():
    given = attribution()
    scene = pack(given)
    assert_exact(rows_in(scene.blobs["relevance"], 100), given.relevance)
    assert (given.occlusion < 0).any()
    assert_exact(rows_in(scene.blobs["occlusion"], 48), given.occlusion.clamp(min=0))
    packed = scene.metadata["attribution"]
    assert packed["grid"] == {"width": 8, "height": 6, "spanWidth": 8, "spanHeight": 6}
    assert (packed["queries"], packed["labels"]) == ([3, 1], [0, 1])
    assert scene.left_out == ()


def test_curves_to_three_digits_and_the_areas_under_them():
    given = attribution()
    packed = pack(given).metadata["attribution"]
    np.testing.assert_allclose(packed["fractions"], FRACTIONS)
    for kind in ("deletion", "insertion"):
        curves = getattr(given, kind)
        assert set(packed[kind]) == {"attention", "relevance", "occlusion", "box", "random"}
        for name, rows in packed[kind].items():
            np.testing.assert_allclose(rows, curves[name], atol=0.0005)
            assert all(value == round(value, 3) for row in rows for value in row)
            np.testing.assert_allclose(packed["areas"][kind][name], area_under(FRACTIONS, curves[name]), atol=5e-5)


def test_relevance_is_of_the_tokens_that_are_not_padding():
    given = attribution()
    is_image = torch.rand(100, generator=torch.Generator().manual_seed(0)) > 0.3
    _, blobs = pack_attribution(given, is_image)
    assert_exact(rows_in(blobs["relevance"], int(is_image.sum())), given.relevance[:, is_image])


def test_maps_of_nothing_but_0():
    given = attribution()
    given = replace(given, relevance=torch.zeros(2, 100), occlusion=-torch.rand(2, 48))
    scene = pack(given)
    assert not rows_in(scene.blobs["relevance"], 100).any()
    assert not rows_in(scene.blobs["occlusion"], 48).any()


@pytest.mark.parametrize("given", [None, attribution((), ())])
def test_without_attributed_detections_there_is_nothing_of_it(given):
    scene = pack(given)
    assert scene.metadata["attribution"] is None
    assert {"relevance", "occlusion"}.isdisjoint(scene.blobs)
    assert scene.blobs == pack(None).blobs


def test_seven_detections():
    given = attribution((5, 4, 3, 2, 1, 0, 3), (0, 1, 2, 0, 1, 2, 1))
    scene = pack(given)
    assert_exact(rows_in(scene.blobs["relevance"], 100), given.relevance)
    assert len(scene.metadata["attribution"]["deletion"]["box"]) == 7


def test_attention_of_these_queries_comes_first():
    attention = maps(2, 2, 40, 3, grids=((24, 32), (12, 16)), spans=((32.0, 24.0), (16.0, 12.0)))
    given = attribution((17, 33), tokens=960)
    scene = pack(given, attention, budget=279_000)
    assert scene.metadata["includedQueries"][:3] == [17, 33, 3]


@pytest.mark.parametrize("budget", [259_000, 279_000, 314_000, 354_000])
def test_the_maps_count_in_the_budget(budget):
    attention = maps(2, 2, 40, 3, grids=((24, 32), (12, 16)), spans=((32.0, 24.0), (16.0, 12.0)))
    scene = pack(attribution((3, 1, 5), (0, 1, 2), tokens=960), attention, budget=budget)
    assert len(explorer_page([scene], NAMES)) < budget
    assert scene.metadata["leftOut"] == list(scene.left_out)
    assert (scene.metadata["attribution"] is None) == (LEFT_OUT in scene.left_out)
    assert len(scene.metadata["includedQueries"]) > 0


def test_what_would_take_more_than_half_of_the_budget_is_left_out():
    given = attribution(tokens=960)
    attention = maps(1, 1, 6, 0, grids=((24, 32), (12, 16)), spans=((32.0, 24.0), (16.0, 12.0)))
    scene = pack(given, attention, budget=248_000)
    assert scene.left_out[0] == LEFT_OUT
    assert scene.metadata["attribution"] is None
    assert {"relevance", "occlusion"}.isdisjoint(scene.blobs)
    assert metadata_in(explorer_page([scene], NAMES))["scenes"][0]["leftOut"][0] == LEFT_OUT


def test_labels_of_the_page_where_there_are_several_models():
    scenes = [pack(attribution()), pack(attribution(labels=(2, 0)))]
    models = [ExploredModel("a", NAMES), ExploredModel("b", ("spoon", "jug", "cup"))]
    first, second = metadata_in(explorer_page(scenes, (), models=models))["scenes"]
    assert first["attribution"]["labels"] == [0, 1]
    assert second["attribution"]["labels"] == [0, 2], "cup and spoon"
