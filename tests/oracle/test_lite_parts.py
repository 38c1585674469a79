"""Parts of `lite` that are published elsewhere, against Conditional, DAB and Deformable DETR of `transformers`."""

import math

import pytest
import torch
from torch import nn
from torchvision.ops import generalized_box_iou
from transformers import ConditionalDetrConfig, DabDetrConfig
from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher
from transformers.models.conditional_detr.modeling_conditional_detr import ConditionalDetrDecoderCrossAttention
from transformers.models.dab_detr.modeling_dab_detr import (
    DabDetrDecoderLayerCrossAttention,
    encode_sinusoidal_position_embedding,
    inverse_sigmoid,
)

from benchmarks.hf_reference import random_batch
from detr_lite.box_ops import cxcywh_to_xyxy, paired_iou_and_giou
from detr_lite.loss.matcher import MatchingCost, match
from detr_lite.loss.targets import pad_targets
from detr_lite.model.attention import ConditionalCrossAttention
from detr_lite.model.decoder import ConditionalDecoderLayer, QueryPosition
from detr_lite.model.encoder import EncoderOutput
from detr_lite.model.heads import RefinementHeads
from detr_lite.model.position import sine_embed

DIM, HEADS = 32, 4


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    """Queries and memory tokens with their positions, a bias, and padding."""
    torch.manual_seed(0)
    is_padding = torch.zeros(2, 9, dtype=torch.bool)
    is_padding[1, 6:] = True
    return {
        "query": torch.randn(2, 5, DIM),
        "query_position": torch.randn(2, 5, DIM),
        "key": torch.randn(2, 9, DIM),
        "key_position": torch.randn(2, 9, DIM),
        "bias": torch.randn(2, HEADS, 5, 9),
        "is_padding": is_padding,
    }


def copy_attention(attention: ConditionalCrossAttention, **reference: nn.Module) -> None:
    """Load the reference's random weights; every projection must be named.

    The reference's keys have a bias, which adds the same to a query's scores of all tokens: the softmax cancels it.
    """
    assert reference.keys() == dict(attention.named_children()).keys()
    for name, linear in reference.items():
        assert isinstance(linear, nn.Linear)
        nn.init.normal_(linear.bias, std=0.3)  # zero biases would hide a forgotten one
        state = linear.state_dict()
        if name.startswith("key"):
            del state["bias"]
        attention.get_submodule(name).load_state_dict(state)


@pytest.mark.parametrize("need_weights", [False, True])
def test_conditional_cross_attention_is_conditional_detrs(inputs, need_weights):
    """From the second layer on; in the first the reference adds the position to the content as well."""
    config = ConditionalDetrConfig(d_model=DIM, decoder_attention_heads=HEADS, attn_implementation="eager")
    reference = ConditionalDetrDecoderCrossAttention(config, DIM, HEADS).eval()
    attention = ConditionalCrossAttention(DIM, HEADS).eval()
    copy_attention(
        attention,
        query_content=reference.q_content_proj,
        query_position=reference.q_pos_sine_proj,
        key_content=reference.k_content_proj,
        key_position=reference.k_pos_proj,
        value=reference.v_proj,
        output=reference.o_proj,
    )
    leaves = {name: inputs[name].requires_grad_() for name in ("query", "query_position", "key", "key_position")}
    expected, weights = reference(
        hidden_states=leaves["query"],
        encoder_hidden_states=leaves["key"],
        query_sine_embed=leaves["query_position"],
        encoder_position_embeddings=leaves["key_position"],
        attention_mask=inputs["bias"].masked_fill(inputs["is_padding"][:, None, None], -math.inf),
    )
    attended = attention(
        **leaves,
        value=leaves["key"],
        attn_mask=~inputs["is_padding"][:, None],
        bias=inputs["bias"],
        need_weights=need_weights,
    )
    torch.testing.assert_close(attended.values, expected, atol=1e-5, rtol=1e-5)
    if need_weights:
        torch.testing.assert_close(attended.weights, weights, atol=1e-6, rtol=1e-5)
    direction = torch.randn_like(expected)
    gradients, expected_gradients = (
        torch.autograd.grad(values, list(leaves.values()), direction) for values in (attended.values, expected)
    )
    torch.testing.assert_close(gradients, expected_gradients, atol=1e-5, rtol=1e-4)


def test_cross_attention_of_a_decoder_layer_is_dab_detrs(inputs):
    """With the residual connection and the norm that follow it."""
    reference = DabDetrDecoderLayerCrossAttention(DabDetrConfig(hidden_size=DIM, decoder_attention_heads=HEADS)).eval()
    layer = ConditionalDecoderLayer(DIM, HEADS, feedforward_dim=DIM, dropout=0.0).eval()
    copy_attention(
        layer.cross_attention,
        query_content=reference.cross_attn_query_content_proj,
        query_position=reference.cross_attn_query_pos_sine_proj,
        key_content=reference.cross_attn_key_content_proj,
        key_position=reference.cross_attn_key_pos_proj,
        value=reference.cross_attn_value_proj,
        output=reference.cross_attn.output_proj,
    )
    nn.init.normal_(reference.cross_attn_layer_norm.weight)
    nn.init.normal_(reference.cross_attn_layer_norm.bias)
    layer.cross_norm.load_state_dict(reference.cross_attn_layer_norm.state_dict())
    bias = inputs["bias"].masked_fill(inputs["is_padding"][:, None, None], -math.inf)
    expected, _ = reference(
        hidden_states=inputs["query"],
        encoder_hidden_states=inputs["key"],
        object_queries=inputs["key_position"],
        query_sine_embed=inputs["query_position"],
        encoder_attention_mask=bias,
    )
    encoded = EncoderOutput(
        memory=inputs["key"],
        position=inputs["key_position"],
        centers=torch.zeros(2, 9, 2),
        sizes=torch.zeros(2, 9, 2),
        is_padding=inputs["is_padding"],
        grids=((3, 3),),
        spans=torch.zeros(2, 1, 2),
    )
    # `embed` is for self-attention alone.
    position = QueryPosition(embed=torch.randn(2, 5, DIM), query_sine=inputs["query_position"], bias=bias)
    attended = layer.cross_attend(inputs["query"], position, encoded, need_weights=False)
    torch.testing.assert_close(layer.cross_norm(inputs["query"] + attended.values), expected, atol=1e-5, rtol=1e-5)


def test_sine_embedding_of_anchors_is_dab_detrs():
    """y before x, then width and height, each with the temperature of section 4.4."""
    anchors_cxcywh = torch.rand(2, 5, 4)
    embedding = sine_embed(anchors_cxcywh[..., [1, 0, 2, 3]], DIM // 2, temperature=20.0)
    expected = encode_sinusoidal_position_embedding(anchors_cxcywh, num_pos_feats=DIM // 2, temperature=20)
    torch.testing.assert_close(embedding, expected, atol=1e-5, rtol=0)


def test_anchors_are_refined_as_dab_detrs():
    torch.manual_seed(0)
    heads = RefinementHeads(DIM, classes=3, layers=2)
    for parameter in heads.parameters():
        nn.init.normal_(parameter, std=0.3)
    states, anchors_cxcywh = torch.randn(2, 5, DIM), torch.rand(2, 5, 4) * 0.9 + 0.05
    boxes_cxcywh = heads(1, states, anchors_cxcywh, None).boxes_cxcywh
    expected = (heads.box[1](states) + inverse_sigmoid(anchors_cxcywh)).sigmoid()
    torch.testing.assert_close(boxes_cxcywh, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("objects", [(0, 0), (1,), (3, 0, 7), (15, 2)])
def test_matching_is_deformable_detrs(objects):
    generator = torch.Generator().manual_seed(len(objects))
    targets = random_batch([(32, 32)] * len(objects), objects, 5, generator).targets
    logits = 3 * torch.randn(2, len(objects), 12, 5, generator=generator)
    boxes_cxcywh = torch.rand(2, len(objects), 12, 4, generator=generator) * 0.4 + 0.1
    matches = match(MatchingCost("sigmoid", 2.0, 5.0, 2.0), logits, boxes_cxcywh, pad_targets(targets))
    found = zip(*(vars(matches)[name].tolist() for name in ("layer", "image", "query", "object")), strict=True)
    matcher = DeformableDetrHungarianMatcher(class_cost=2, bbox_cost=5, giou_cost=2)
    labels = [{"class_labels": target.labels, "boxes": target.boxes_cxcywh} for target in targets]
    expected = set()
    for layer in range(2):
        pairs = matcher({"logits": logits[layer], "pred_boxes": boxes_cxcywh[layer]}, labels)
        for image, (queries, objects_of_image) in enumerate(pairs):
            matched = zip(queries.tolist(), objects_of_image.tolist(), strict=True)
            expected |= {(layer, image, *pair) for pair in matched}
    assert set(found) == expected


def test_all_pairs_of_boxes_overlap_as_torchvisions():
    torch.manual_seed(0)
    first, second = (cxcywh_to_xyxy(torch.rand(count, 4) * 0.5 + 0.2) for count in (6, 4))
    _, giou = paired_iou_and_giou(first[:, None], second[None])
    torch.testing.assert_close(giou, generalized_box_iou(first, second), atol=1e-6, rtol=1e-5)
