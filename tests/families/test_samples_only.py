"""Deformable attention without whole rows: the same numbers, figures and pages of all families, in little memory."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.tiny_families import FAMILIES, HEADS, QUERIES, save_source, tiny_model
from detr_lite.cli.figures import FigureRequest, draw_image
from detr_lite.cli.score_threshold import ScoreThreshold
from detr_lite.detector import Detector
from detr_lite.errors import DetrLiteError
from detr_lite.evaluation.attention_metrics import MEASURES, AttentionMeter
from detr_lite.families.anatomy import DENSE, HYBRID
from detr_lite.structures import AttentionSelection
from detr_lite.viz.close_up import views_of
from detr_lite.viz.figures.attention import attention_figure
from detr_lite.viz.guesses import detections_or_guesses
from detr_lite.viz.heatmap import token_heatmap
from tests.helpers.captures import cached_model, captured
from tests.helpers.figure_checks import assert_legible, panels_of

pytestmark = pytest.mark.slow

DEFORMABLE = tuple(family for family in FAMILIES if family not in DENSE)


@pytest.fixture(scope="module")
def photograph():
    smooth = np.random.default_rng(0).integers(0, 256, (4, 9, 3), np.uint8)
    return Image.fromarray(smooth).resize((180, 80))


@pytest.fixture(scope="module", params=[*FAMILIES, "lw_detr with 8 heads", "rt_detr with 4 levels"])
def detector(request, tmp_path_factory):
    family, settings = {
        "lw_detr with 8 heads": ("lw_detr", {"decoder_cross_attention_heads": 2 * HEADS}),
        "rt_detr with 4 levels": ("rt_detr", {"num_feature_levels": 4}),
    }.get(request.param, (request.param, {}))
    folder = tmp_path_factory.mktemp("source")
    return Detector.from_pretrained(save_source(tiny_model(family, **settings), folder), "cpu")


def measured(maps):
    meter = AttentionMeter()
    image, query = torch.tensor([0, 0, 1]), torch.tensor([3, QUERIES - 1, 0])
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.3], [0.2, 0.3, 0.1, 0.2], [0.6, 0.4, 0.8, 0.8]])
    meter.update(maps, image, query, boxes)
    return meter.compute()


def score_threshold(score: float) -> ScoreThreshold:
    return ScoreThreshold(score, score, f"{score:g}", f"score at least {score:g}", {})


@pytest.mark.parametrize("family", DEFORMABLE)
def test_rows_are_made_when_they_are_needed(family):
    network = cached_model(family)
    whole, _ = captured(network, family)
    maps, _ = captured(network, family, AttentionSelection(samples_only=True))
    assert maps.cross.is_meta
    assert maps.cross.shape == whole.cross.shape
    image, query = torch.tensor([1, 0, 1]), torch.tensor([5, 5, 0])
    expected = whole.cross[:, image, :, query]
    assert torch.equal(maps.rows_of(image, query), expected)
    assert torch.equal(whole.rows_of(image, query), expected)
    for layer in range(len(whole.cross)):
        torch.testing.assert_close(maps.mean_rows(layer), whole.cross[layer].mean(1))
    moved = maps.to("cpu")
    assert moved.cross.is_meta
    assert torch.equal(moved.sampled.points, maps.sampled.points)


def test_dense_attention_has_rows_in_any_case():
    maps, _ = captured(cached_model("detr"), "detr", AttentionSelection(samples_only=True))
    assert torch.equal(maps.rows_of(torch.tensor([1]), torch.tensor([2]))[0], maps.cross[:, 1, :, 2])
    torch.testing.assert_close(maps.mean_rows(-1), maps.cross[-1].mean(1))


@pytest.mark.parametrize("family", DEFORMABLE)
def test_metrics_need_no_whole_rows(family):
    network = cached_model(family)
    whole, _ = captured(network, family)
    maps, _ = captured(network, family, AttentionSelection(samples_only=True))
    expected, found = measured(whole), measured(maps)
    for name in (*MEASURES, "apart"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
        assert torch.isfinite(getattr(found, name)).all()
    assert (found.entropy_share <= 1).all()
    assert (found.inside <= 1 + 1e-6).all()


def test_metrics_of_rows_that_do_not_sum_to_1():
    """Query 0 has a half on one token and loses the other; query 1 has all of its weight on two tokens."""
    maps, _ = captured(cached_model("rf_detr"), "rf_detr")
    cross = torch.zeros_like(maps.cross[:1, :1, :1, :2])
    cross[..., 0, 5] = 0.5
    cross[..., 1, 5:7] = 0.5
    sampled = replace(
        maps.sampled, **{name: value[:1, :1, :1, :2] for name, value in vars(maps.sampled).items() if name != "level"}
    )
    sampled = replace(sampled, outside=1 - cross.sum(-1))
    maps = replace(
        maps, cross=cross, queries=maps.queries[:1, :1, :1, :2, :2], encoder=maps.encoder[:, :1], sampled=sampled,
        is_padding=maps.is_padding[:1], spans=maps.spans[:1],
    )  # fmt: skip
    meter = AttentionMeter()
    meter.update(maps, torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([[0.5, 0.5, 1.0, 1.0]] * 2))
    metrics = meter.compute()
    assert metrics.inside[0, 0].item() == pytest.approx((0.5 + 1) / 2), "what is outside is in no box"
    assert metrics.entropy[0, 0].item() == pytest.approx((0 + math.log(2)) / 2)
    assert metrics.apart.item() == pytest.approx(0.25), "half of the weight, to the mean of both"


@pytest.mark.stress
def test_every_figure_of_every_family(detector, photograph):
    has_encoder = detector.model.family.title in ("DETR", "Conditional DETR", "DAB-DETR") or (
        detector.model.network.config.model_type in HYBRID
    )
    heads = detector.attend(photograph, AttentionSelection(layers=[0])).cross.shape[2]
    guesses = detections_or_guesses(detector(photograph), 1.0).detections
    rows = [len(views_of(box, photograph.size)) for box in guesses.boxes_xyxy.tolist()]  # two of small boxes
    for kind in ("queries", "layers", "points"):
        request = FigureRequest(kind, score_threshold(0.0), None, "mean" if kind == "points" else "all", 0, None)
        if kind == "points" and not has_encoder:
            with pytest.raises(
                DetrLiteError, match=r"the encoder of this model has no dense .* --figure queries or layers$"
            ):
                draw_image(detector, photograph, request)
            continue
        figure, _ = draw_image(detector, photograph, replace(request, threshold=score_threshold(1.0)))
        assert_legible(figure)
        expected = {
            "queries": sum(rows) * (2 + heads),
            "layers": rows[0] * (2 + heads) * len(detector.model.network.model.decoder.layers),
        }
        assert len(panels_of(figure)) == expected.get(kind, len(panels_of(figure)))


def test_heatmaps_have_all_weight_that_did_not_fall_outside(detector, photograph):
    maps = detector.attend(photograph)
    for query in range(3):
        rows = maps.cross[-1, 0, :, query]
        assert token_heatmap(rows[0], maps).sum() == pytest.approx(rows[0].sum().item(), abs=1e-4)
    assert maps.grids[maps.encoder_level] == maps.encoder_grids[0]
    if len(maps.encoder):
        row = maps.encoder[0, 0, 0, 0]
        assert token_heatmap(row, maps).sum() == pytest.approx(1, abs=1e-4)


def test_dots_are_the_sampled_points_inside_the_image(tmp_path, photograph):
    detector = Detector.from_pretrained(save_source(tiny_model("rt_detr"), tmp_path), "cpu")
    explained = detector.explain(photograph, AttentionSelection(encoder_layers=(), samples_only=True))
    maps, detections = explained.attention, explained.detections[:1]
    figure = attention_figure(photograph, detections, maps, heads=[2])
    before, panel = panels_of(figure)[:2]
    (dots,) = panel.collections
    assert not before.collections
    query = int(detections.queries[0])
    points, weights = maps.sampled.points[-1, 0, 2, query], maps.sampled.weights[-1, 0, 2, query]
    inside = ((points >= 0) & (points <= 1)).all(-1) & (weights >= 0.02)
    np.testing.assert_allclose(dots.get_offsets(), points[inside] * torch.tensor(photograph.size), rtol=1e-4)
    np.testing.assert_allclose(
        dots.get_sizes() / dots.get_sizes().max(), weights[inside] / weights[inside].max(), rtol=1e-4
    )
    assert (panel.get_xlim(), panel.get_ylim()) == ((0, photograph.width), (photograph.height, 0))
