"""Weights of dense attention from its query and key, under each kind of mask."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from detr_lite.families.intercept import attention_rows, full_mask, on_deformable_attention
from detr_lite.structures import DetrLiteError

pytestmark = pytest.mark.slow

BATCH, HEADS, ROWS, TOKENS, DIM = 2, 3, 4, 5, 6


@pytest.fixture
def attention():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(BATCH, HEADS, ROWS, DIM, generator=generator)
    key, value = (torch.randn(BATCH, HEADS, TOKENS, DIM, generator=generator) for _ in range(2))
    return query, key, value


@pytest.mark.parametrize("kind", ["none", "bool", "added", "tokens"])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_rows_times_values_are_scaled_dot_product_attention(attention, kind, scaling):
    query, key, value = attention
    may_attend = torch.ones(BATCH, 1, 1, TOKENS, dtype=torch.bool)
    may_attend[1, ..., 3:] = False
    given = {
        "none": None,
        "bool": may_attend,
        "added": torch.zeros(may_attend.shape).masked_fill(~may_attend, torch.finfo(torch.float32).min),
        "tokens": may_attend[:, 0, 0].long(),  # as flash attention takes it
    }[kind]
    mask = full_mask(given, query, key)
    rows = attention_rows(query, key, mask, scaling)
    expected = F.scaled_dot_product_attention(
        query, key, value, attn_mask=None if kind == "none" else may_attend, scale=scaling
    )
    torch.testing.assert_close(rows @ value, expected)
    assert kind == "none" or not rows[1, ..., 3:].any()
    chosen = attention_rows(query[:, [2, 0]], key[:, [2, 0]], None if mask is None else mask[:, [2, 0]], scaling)
    torch.testing.assert_close(chosen, rows[:, [2, 0]])


def test_a_mask_that_is_no_tensor_is_an_error(attention):
    query, key, _ = attention
    with pytest.raises(DetrLiteError, match="attn_implementation='sdpa'"):
        full_mask(object(), query, key)


def test_a_version_that_computes_it_elsewhere_is_an_error():
    with pytest.raises(DetrLiteError, match="Identity does not call multi_scale_deformable_attention_v2"):
        on_deformable_attention(nn.Identity(), lambda *args: None)
