"""Settings reach the modules that they belong to."""

import pytest

from detr_lite.build import build_criterion, build_model, require
from detr_lite.config import Config, LossConfig, ModelConfig
from detr_lite.loss.criterion import LiteCriterion
from detr_lite.loss.matcher import MatchingCost
from detr_lite.model.heads import FDRHeads, RefinementHeads
from detr_lite.model.queries import AnchorQueries
from detr_lite.structures import DetrLiteError

SMALL = {"pretrained": False, "dim": 32, "heads": 2}


def test_settings_of_lites_loss() -> None:
    loss = LossConfig(class_weight=1.0, class_cost=2.0, l1=3.0, giou=4.0, fdr_weight=5.0, one_to_many_topk=6, gamma=7.0)
    assert build_criterion(Config(loss=loss), classes=3) == LiteCriterion(
        cost=MatchingCost("sigmoid", class_cost=2.0, l1=3.0, giou=4.0),
        weights={"class": 1.0, "l1": 3.0, "giou": 4.0, "fdr": 5.0},
        one_to_many_topk=6,
        gamma=7.0,
    )


def test_default_loss_of_lite() -> None:
    criterion = build_criterion(Config(), classes=3)
    assert isinstance(criterion, LiteCriterion)
    assert criterion.cost == MatchingCost("sigmoid", class_cost=2.0, l1=5.0, giou=2.0)
    assert criterion.weights == {"class": 4.0, "l1": 5.0, "giou": 2.0, "fdr": 0.15}


def test_settings_of_lites_queries() -> None:
    config = ModelConfig(
        **SMALL,
        num_queries=11,
        query_dedup_iou=0.7,
        denoising_queries=13,
        contrastive_denoising=False,
        denoising_noise=0.7,
        relation_bias=False,
    )
    model = build_model(config, classes=3)
    queries = model.queries
    assert isinstance(queries, AnchorQueries)
    assert (queries.count, queries.dedup_iou, queries.classes) == (11, 0.7, 3)
    assert (queries.denoising_queries, queries.contrastive, queries.denoising_noise) == (13, False, 0.7)
    plain = build_model(ModelConfig(**SMALL, num_queries=11), classes=3)
    assert plain.queries.contrastive
    assert plain.queries.denoising_noise == 0.4
    assert len([*plain.decoder.parameters()]) > len([*model.decoder.parameters()])  # of the relation bias


def test_the_box_head_is_chosen_by_its_setting() -> None:
    heads = [build_model(ModelConfig(**SMALL, num_queries=5, box_head=name), 3).heads for name in ("regression", "fdr")]
    assert [type(each) for each in heads] == [RefinementHeads, FDRHeads]


def test_a_setting_that_is_not_set_is_an_error() -> None:
    assert require("optim.lr", 0.1) == 0.1
    with pytest.raises(DetrLiteError, match=r"^optim.lr is not set and was not chosen from the data; set --optim.lr$"):
        require("optim.lr", None)
