"""Random attention and fixed detections of an image, to compare pages and figures with."""

import torch
from PIL import Image, ImageDraw

from detr_lite.attention_maps import dense_rows
from detr_lite.families.sampling import bilinear_rows
from detr_lite.structures import AttentionMaps, Detections, SampledAttention

NAMES = ("cup", "plate", "spoon")


def picture(width=160, height=120):
    """A gradient with shapes, in place of a photograph."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    draw = ImageDraw.Draw(image)
    draw.rectangle((20, 20, 70, 60), fill=(200, 60, 40))
    draw.ellipse((90, 50, 150, 110), fill=(40, 90, 200))
    return image


def maps(
    layers=3, heads=4, queries=6, encoder_layers=2, grids=((8, 10), (4, 5)), spans=((10.0, 7.5), (5.0, 3.75)), seed=0
):
    """Random weights, peaked as those of a trained model; every row sums to 1."""
    generator = torch.Generator().manual_seed(seed)

    def softmax(*shape):
        return (3 * torch.randn(*shape, generator=generator)).softmax(-1)

    tokens, coarse = sum(h * w for h, w in grids), grids[-1][0] * grids[-1][1]
    return AttentionMaps(
        cross=softmax(layers, 1, heads, queries, tokens),
        queries=softmax(layers, 1, heads, queries, queries),
        encoder=softmax(encoder_layers, 1, heads, coarse, coarse),
        grids=grids,
        encoder_grids=grids[-1:],
        is_padding=torch.zeros(1, tokens, dtype=torch.bool),
        spans=torch.tensor(spans)[None],
    )


def sampled_maps(layers=2, heads=4, queries=6, self_heads=2, has_rows=False, seed=0):
    """Of a deformable model whose encoder has no attention: three points in the fine level, two in the coarse one."""
    generator = torch.Generator().manual_seed(seed)
    grids, level = ((8, 10), (4, 5)), torch.tensor([0, 0, 0, 1, 1])
    shape = (layers, 1, heads, queries, len(level))
    points = 0.5 + 0.35 * torch.randn(*shape, 2, generator=generator)
    weights = (2 * torch.randn(*shape, generator=generator)).softmax(-1)
    rows = [bilinear_rows(*each, level, grids) for each in zip(points, weights, strict=True)]
    tokens, shares = torch.stack([row.tokens for row in rows]), torch.stack([row.weights for row in rows])
    outside = torch.stack([row.outside for row in rows])
    others = torch.randn(layers, 1, self_heads, queries, queries, generator=generator).softmax(-1)
    return AttentionMaps(
        cross=dense_rows(tokens, shares, 100) if has_rows else torch.empty(*shape[:-1], 100, device="meta"),
        queries=others,
        encoder=torch.zeros(0, 1, heads, 20, 20),
        grids=grids,
        encoder_grids=grids[-1:],
        is_padding=torch.zeros(1, 100, dtype=torch.bool),
        spans=torch.tensor([[[10.0, 8.0], [5.0, 4.0]]]),
        sampled=SampledAttention(points, weights, level, outside, tokens, shares),
    )


def found(scores=(0.9, 0.8, 0.6, 0.2), names=NAMES):
    """Query 3 has a box at the left, query 1 one at the right, query 5 a small one in it, query 0 a low score."""
    boxes = [[20, 20, 70, 60], [90, 50, 150, 110], [100, 60, 120, 80], [5, 90, 60, 115]]
    count = len(scores)
    return Detections(
        torch.tensor(boxes[:count], dtype=torch.float).reshape(-1, 4),
        torch.tensor(scores),
        torch.tensor([0, 1, 2, 0][:count], dtype=torch.long),
        torch.tensor([3, 1, 5, 0][:count], dtype=torch.long),
        names,
    )


def truth():
    return Detections(
        torch.tensor([[22.0, 21, 71, 62], [1, 1, 9, 9]]),
        torch.ones(2),
        torch.tensor([0, 1]),
        torch.arange(2),
        ("cup", "jug"),
    )


def word_maps(words=5, source=6, layers=2, heads=2, encoder_layers=1, grid=None, seed=0):
    """Of a sentence over another one, or over an image of one grid: causal self-attention between the words."""
    generator = torch.Generator().manual_seed(seed)
    later = torch.ones(words, words, dtype=torch.bool).triu(1)

    def softmax(*shape, mask=None):
        scores = 3 * torch.randn(*shape, generator=generator)
        return (scores if mask is None else scores.masked_fill(mask, -torch.inf)).softmax(-1)

    height, width = grid or (1, source)
    tokens = height * width
    return AttentionMaps(
        cross=softmax(layers, 1, heads, words, tokens),
        queries=softmax(layers, 1, heads, words, words, mask=later),
        encoder=softmax(encoder_layers, 1, heads, tokens, tokens),
        grids=((height, width),),
        encoder_grids=((height, width),),
        is_padding=torch.zeros(1, tokens, dtype=torch.bool),
        spans=torch.tensor([[[float(width), float(height)]]]),
    )
