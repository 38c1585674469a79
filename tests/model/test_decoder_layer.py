"""A decoder layer of plain attention with a bias on the scores of cross-attention."""

import torch

from detr_lite.model.decoder import DecoderLayer, QueryPosition
from detr_lite.model.encoder import Memory


def test_the_bias_of_a_position_leads_cross_attention() -> None:
    torch.manual_seed(0)
    layer = DecoderLayer(16, heads=2, feedforward_dim=32, dropout=0.0).eval()
    queries, memory = torch.randn(1, 3, 16), torch.randn(1, 5, 16)
    encoded = Memory(memory, torch.randn(1, 5, 16), torch.zeros(1, 5, dtype=torch.bool))
    chosen = torch.tensor([4, 0, 2])
    bias = torch.full((1, 2, 3, 5), -60.0).scatter(3, chosen.expand(1, 2, 3)[..., None], 0.0)
    plain = layer(queries, QueryPosition(torch.zeros(1, 3, 16)), encoded, need_weights=True)
    led = layer(queries, QueryPosition(torch.zeros(1, 3, 16), bias=bias), encoded, need_weights=True)
    assert led[2].weights.argmax(-1).tolist() == [[chosen.tolist()] * 2]
    assert led[2].weights.amax(-1).min() > 0.999
    assert plain[2].weights.amax(-1).max() < 0.99
    fused = layer(queries, QueryPosition(torch.zeros(1, 3, 16), bias=bias), encoded)
    assert torch.allclose(fused[0], led[0], atol=1e-5)
