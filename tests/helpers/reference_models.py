"""Small DETRs of other programs: the original, built from modules of torch and torchvision, and that of `transformers`.

Keys and outputs come from these libraries, independently of the key mappings that are tested.
"""

import math
import re
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from detr_lite.data.coco_names import COCO_NAMES
from detr_lite.structures import Batch, DetrOutput

UNUSED_BY_COCO = {
    12: "street sign", 26: "hat", 29: "shoe", 30: "eye glasses", 45: "plate", 66: "mirror", 68: "window", 69: "desk",
    71: "door", 83: "blender",
}  # fmt: skip
"""Names in the published config.json files at ids that COCO does not use."""

COCO_LABELS = {label: {**COCO_NAMES, **UNUSED_BY_COCO}.get(label, "N/A") for label in range(91)}
"""id2label as the published config.json files have it."""

ARGUMENTS = Namespace(
    lr=1e-4, batch_size=2, weight_decay=1e-4, lr_drop=200, frozen_weights=None, backbone="resnet50", dilation=False,
    position_embedding="sine", enc_layers=2, dec_layers=3, dim_feedforward=48, hidden_dim=32, dropout=0.1, nheads=4,
    num_queries=7, pre_norm=False, masks=False, aux_loss=True, dataset_file="coco",
    coco_path="/data/coco", device="cuda", seed=42, num_workers=2, output_dir="",
)  # fmt: skip
"""The `args` of a training checkpoint of the original; the sizes are small."""


class OriginalDetr(nn.Module):
    """The original's modules under its names (arXiv 2005.12872, appendix A.3)."""

    def __init__(self, arguments: Namespace, classes: int = 91) -> None:
        super().__init__()
        options = {"replace_stride_with_dilation": [False, False, True]} if arguments.dilation else {}
        resnet = getattr(torchvision.models, arguments.backbone)(norm_layer=FrozenBatchNorm2d, **options)
        body = OrderedDict(item for item in resnet.named_children() if item[0] not in ("avgpool", "fc"))
        self.backbone = nn.ModuleList([nn.ModuleDict({"body": nn.Sequential(body)})])
        self.input_proj = nn.Conv2d(resnet.fc.in_features, arguments.hidden_dim, 1)
        self.query_embed = nn.Embedding(arguments.num_queries, arguments.hidden_dim)
        sizes = (arguments.hidden_dim, arguments.nheads, arguments.dim_feedforward)
        self.transformer = nn.ModuleDict(
            {
                "encoder": nn.ModuleDict(
                    {"layers": nn.ModuleList(_Layer(*sizes) for _ in range(arguments.enc_layers))}
                ),
                "decoder": nn.ModuleDict(
                    {
                        "layers": nn.ModuleList(_DecoderLayer(*sizes) for _ in range(arguments.dec_layers)),
                        "norm": nn.LayerNorm(arguments.hidden_dim),
                    }
                ),
            }
        )
        self.class_embed = nn.Linear(arguments.hidden_dim, classes + 1)
        widths = [arguments.hidden_dim] * 3 + [4]
        self.bbox_embed = nn.ModuleDict({"layers": nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))})

    def forward(self, batch: Batch) -> DetrOutput:
        features = self.input_proj(self.backbone[0]["body"](batch.images))
        is_padding = F.interpolate(batch.is_padding[None].float(), size=features.shape[-2:])[0].bool()
        position = _sine(is_padding, features.shape[1]).flatten(1, 2).transpose(0, 1)
        tokens, mask = features.flatten(2).permute(2, 0, 1), is_padding.flatten(1)
        for layer in self.transformer["encoder"]["layers"]:
            tokens = layer(tokens, position, mask)
        query_position = self.query_embed.weight[:, None].expand(-1, len(features), -1)
        queries, logits, boxes = torch.zeros_like(query_position), [], []
        for layer in self.transformer["decoder"]["layers"]:
            queries = layer(queries, query_position, tokens, position, mask)
            states = self.transformer["decoder"]["norm"](queries).transpose(0, 1)
            logits.append(self.class_embed(states))
            first, second, third = self.bbox_embed["layers"]
            boxes.append(third(second(first(states).relu()).relu()).sigmoid())
        return DetrOutput(torch.stack(logits), torch.stack(boxes))


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads)
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, position: Tensor, mask: Tensor | None = None) -> Tensor:
        query = tokens + position
        tokens = self.norm1(tokens + self.self_attn(query, query, tokens, key_padding_mask=mask)[0])
        return self.norm2(tokens + self.linear2(self.linear1(tokens).relu()))


class _DecoderLayer(_Layer):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__(dim, heads, hidden)
        self.multihead_attn = nn.MultiheadAttention(dim, heads)
        self.norm3 = nn.LayerNorm(dim)

    def forward(
        self, queries: Tensor, query_position: Tensor, memory: Tensor, position: Tensor, mask: Tensor
    ) -> Tensor:
        query = queries + query_position
        queries = self.norm1(queries + self.self_attn(query, query, queries)[0])
        query = queries + query_position
        cross_attended = self.multihead_attn(query, memory + position, memory, key_padding_mask=mask)[0]
        queries = self.norm2(queries + cross_attended)
        return self.norm3(queries + self.linear2(self.linear1(queries).relu()))


def _sine(is_padding: Tensor, dim: int) -> Tensor:
    embeddings = []
    for axis in (1, 2):
        count = (~is_padding).cumsum(axis, dtype=torch.float32)
        share = 2 * math.pi * count / (count.amax(axis, keepdim=True) + 1e-6)
        angles = share[..., None] / 10000 ** (torch.arange(0, dim // 2, 2) / (dim // 2))
        embeddings.append(torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2))
    return torch.cat(embeddings, dim=-1)


@torch.no_grad()
def fill_with_noise(model: nn.Module, seed: int) -> None:
    """Random numbers in every parameter and buffer, of a size that keeps features bounded."""
    generator = torch.Generator().manual_seed(seed)
    for name, values in model.state_dict().items():
        noise = torch.randn(values.shape, generator=generator)
        if values.ndim > 1:
            # Different queries, sharp attention and small updates, or all queries would predict the same.
            gains = {"query": values.shape[1] ** 0.5, "in_proj|[qk]_proj": 2.5, r"out_proj|\bo_proj|linear2|fc2": 0.2}
            gain = next((gain for pattern, gain in gains.items() if re.search(pattern, name)), 1.0)
            values.copy_(noise * gain / values[0].numel() ** 0.5)
        elif name.endswith(("weight", "running_var")):
            values.copy_(0.5 + noise.sigmoid())
        else:
            values.copy_(0.2 * noise)


def original_detr(classes: int = 91, **changes: Any) -> tuple[OriginalDetr, Namespace]:
    """The original with random numbers everywhere and a ResNet-18, unless changed, and its arguments."""
    arguments = Namespace(**{**vars(ARGUMENTS), "backbone": "resnet18", **changes})
    model = OriginalDetr(arguments, classes).eval()
    fill_with_noise(model, seed=3)
    return model, arguments


def save_pth(path: Path, model: OriginalDetr, arguments: Namespace) -> Path:
    """Write a training checkpoint as the original does."""
    optimizer = torch.optim.AdamW(model.class_embed.parameters(), lr=1e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 200)
    others = {
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "epoch": 299,
        "args": arguments,
    }
    torch.save({"model": model.state_dict(), **others}, path)
    return path


def transformers_detr(**changes: Any) -> Any:
    """DetrForObjectDetection of the same sizes with random numbers everywhere; timm's ResNet-18, unless changed."""
    from transformers import DetrConfig, DetrForObjectDetection

    backbone = {} if "backbone_config" in changes else {"backbone": "resnet18", "use_pretrained_backbone": False}
    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    config = DetrConfig(**{**sizes, **heads, "num_queries": 7, "id2label": COCO_LABELS, **backbone, **changes})
    model = DetrForObjectDetection(config).eval()
    fill_with_noise(model, seed=4)
    return model


@torch.no_grad()
def assert_predicts_as_the_original(model: nn.Module, original: OriginalDetr, batch: Batch) -> None:
    _assert_same(model(batch), original(batch))


@torch.no_grad()
def assert_predicts_as_transformers(model: nn.Module, reference: Any, batch: Batch) -> None:
    output = model(batch)
    expected = reference(pixel_values=batch.images, pixel_mask=(~batch.is_padding).long())
    last = DetrOutput(output.logits[-1:], output.boxes_cxcywh[-1:])
    _assert_same(last, DetrOutput(expected.logits[None], expected.pred_boxes[None]))


def _assert_same(output: DetrOutput, expected: DetrOutput) -> None:
    assert expected.logits.std(dim=2).mean() > 0.01  # if all queries predicted the same, errors could go unnoticed
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.boxes_cxcywh, expected.boxes_cxcywh, atol=1e-4, rtol=1e-4)
