"""Other people's DETRs: the original, built here from torch's own parts, and that of `transformers`, both small.

Names and numbers come from `nn.MultiheadAttention`, torchvision's ResNet and `transformers` themselves, so that no map
of ours vouches for itself.
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

GIVEN_UP = {
    12: "street sign", 26: "hat", 29: "shoe", 30: "eye glasses", 45: "plate", 66: "mirror", 68: "window", 69: "desk",
    71: "door", 83: "blender",
}  # fmt: skip
"""Names that the published config.json files have at numbers which COCO does not use."""

COCO_LABELS = {label: {**COCO_NAMES, **GIVEN_UP}.get(label, "N/A") for label in range(91)}
"""id2label as the published config.json files have it."""

ARGUMENTS = Namespace(
    lr=1e-4, batch_size=2, weight_decay=1e-4, lr_drop=200, frozen_weights=None, backbone="resnet50", dilation=False,
    position_embedding="sine", enc_layers=2, dec_layers=3, dim_feedforward=48, hidden_dim=32, dropout=0.1, nheads=4,
    num_queries=7, pre_norm=False, masks=False, aux_loss=True, dataset_file="coco",
    coco_path="/data/coco", device="cuda", seed=42, num_workers=2, output_dir="",
)  # fmt: skip
"""What a training file of the original holds beside its weights; the sizes are small."""


class OriginalDetr(nn.Module):
    """The original's parts under its names (arXiv 2005.12872, appendix A.3)."""

    def __init__(self, said: Namespace, classes: int = 91) -> None:
        super().__init__()
        options = {"replace_stride_with_dilation": [False, False, True]} if said.dilation else {}
        resnet = getattr(torchvision.models, said.backbone)(norm_layer=FrozenBatchNorm2d, **options)
        kept = OrderedDict(item for item in resnet.named_children() if item[0] not in ("avgpool", "fc"))
        self.backbone = nn.ModuleList([nn.ModuleDict({"body": nn.Sequential(kept)})])
        self.input_proj = nn.Conv2d(resnet.fc.in_features, said.hidden_dim, 1)
        self.query_embed = nn.Embedding(said.num_queries, said.hidden_dim)
        sizes = (said.hidden_dim, said.nheads, said.dim_feedforward)
        self.transformer = nn.ModuleDict(
            {
                "encoder": nn.ModuleDict({"layers": nn.ModuleList(_Layer(*sizes) for _ in range(said.enc_layers))}),
                "decoder": nn.ModuleDict(
                    {
                        "layers": nn.ModuleList(_DecoderLayer(*sizes) for _ in range(said.dec_layers)),
                        "norm": nn.LayerNorm(said.hidden_dim),
                    }
                ),
            }
        )
        self.class_embed = nn.Linear(said.hidden_dim, classes + 1)
        widths = [said.hidden_dim] * 3 + [4]
        self.bbox_embed = nn.ModuleDict({"layers": nn.ModuleList(map(nn.Linear, widths[:-1], widths[1:]))})

    def forward(self, batch: Batch) -> DetrOutput:
        features = self.input_proj(self.backbone[0]["body"](batch.images))
        is_padding = F.interpolate(batch.is_padding[None].float(), size=features.shape[-2:])[0].bool()
        position = _sine(is_padding, features.shape[1]).flatten(1, 2).transpose(0, 1)
        tokens, mask = features.flatten(2).permute(2, 0, 1), is_padding.flatten(1)
        for layer in self.transformer["encoder"]["layers"]:
            tokens = layer(tokens, position, mask)
        place = self.query_embed.weight[:, None].expand(-1, len(features), -1)
        state, logits, boxes = torch.zeros_like(place), [], []
        for layer in self.transformer["decoder"]["layers"]:
            state = layer(state, place, tokens, position, mask)
            answer = self.transformer["decoder"]["norm"](state).transpose(0, 1)
            logits.append(self.class_embed(answer))
            first, second, third = self.bbox_embed["layers"]
            boxes.append(third(second(first(answer).relu()).relu()).sigmoid())
        return DetrOutput(torch.stack(logits), torch.stack(boxes))


class _Layer(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads)
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, position: Tensor, mask: Tensor | None = None) -> Tensor:
        placed = tokens + position
        tokens = self.norm1(tokens + self.self_attn(placed, placed, tokens, key_padding_mask=mask)[0])
        return self.norm2(tokens + self.linear2(self.linear1(tokens).relu()))


class _DecoderLayer(_Layer):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__(dim, heads, hidden)
        self.multihead_attn = nn.MultiheadAttention(dim, heads)
        self.norm3 = nn.LayerNorm(dim)

    def forward(self, state: Tensor, place: Tensor, tokens: Tensor, position: Tensor, mask: Tensor) -> Tensor:
        placed = state + place
        state = self.norm1(state + self.self_attn(placed, placed, state)[0])
        asked = self.multihead_attn(state + place, tokens + position, tokens, key_padding_mask=mask)[0]
        state = self.norm2(state + asked)
        return self.norm3(state + self.linear2(self.linear1(state).relu()))


def _sine(is_padding: Tensor, dim: int) -> Tensor:
    codes = []
    for axis in (1, 2):
        count = (~is_padding).cumsum(axis, dtype=torch.float32)
        share = 2 * math.pi * count / (count.amax(axis, keepdim=True) + 1e-6)
        angles = share[..., None] / 10000 ** (torch.arange(0, dim // 2, 2) / (dim // 2))
        codes.append(torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2))
    return torch.cat(codes, dim=-1)


@torch.no_grad()
def fill_with_noise(model: nn.Module, seed: int) -> None:
    """Random numbers in every parameter and buffer, of a size that keeps features in bounds."""
    generator = torch.Generator().manual_seed(seed)
    for name, values in model.state_dict().items():
        noise = torch.randn(values.shape, generator=generator)
        if values.ndim > 1:
            # Queries far apart, sharp attention and small steps, or all queries would come to answer the same.
            gains = {"query": values.shape[1] ** 0.5, "in_proj|[qk]_proj": 2.5, r"out_proj|\bo_proj|linear2|fc2": 0.2}
            gain = next((gain for words, gain in gains.items() if re.search(words, name)), 1.0)
            values.copy_(noise * gain / values[0].numel() ** 0.5)
        elif name.endswith(("weight", "running_var")):
            values.copy_(0.5 + noise.sigmoid())
        else:
            values.copy_(0.2 * noise)


def original_detr(classes: int = 91, **changes: Any) -> tuple[OriginalDetr, Namespace]:
    """The original with random numbers everywhere, and its arguments; a ResNet-18, unless `changes` say otherwise."""
    said = Namespace(**{**vars(ARGUMENTS), "backbone": "resnet18", **changes})
    model = OriginalDetr(said, classes).eval()
    fill_with_noise(model, seed=3)
    return model, said


def save_pth(path: Path, model: OriginalDetr, said: Namespace) -> Path:
    """A training file as the original's repository writes it."""
    optimizer = torch.optim.AdamW(model.class_embed.parameters(), lr=1e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 200)
    beside = {"optimizer": optimizer.state_dict(), "lr_scheduler": schedule.state_dict(), "epoch": 299, "args": said}
    torch.save({"model": model.state_dict(), **beside}, path)
    return path


def their_detr(**changes: Any) -> Any:
    """DetrForObjectDetection of the same sizes with random numbers everywhere; timm's ResNet-18, unless changed."""
    from transformers import DetrConfig, DetrForObjectDetection

    body = {} if "backbone_config" in changes else {"backbone": "resnet18", "use_pretrained_backbone": False}
    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    config = DetrConfig(**{**sizes, **heads, "num_queries": 7, "id2label": COCO_LABELS, **body, **changes})
    model = DetrForObjectDetection(config).eval()
    fill_with_noise(model, seed=4)
    return model


@torch.no_grad()
def assert_answers_as_the_original(ours: nn.Module, original: OriginalDetr, batch: Batch) -> None:
    _assert_same(ours(batch), original(batch))


@torch.no_grad()
def assert_answers_as_theirs(ours: nn.Module, theirs: Any, batch: Batch) -> None:
    answer = ours(batch)
    expected = theirs(pixel_values=batch.images, pixel_mask=(~batch.is_padding).long())
    last = DetrOutput(answer.logits[-1:], answer.boxes_cxcywh[-1:])
    _assert_same(last, DetrOutput(expected.logits[None], expected.pred_boxes[None]))


def _assert_same(answer: DetrOutput, expected: DetrOutput) -> None:
    assert expected.logits.std(dim=2).mean() > 0.01  # were all queries the same, much could be wrong unseen
    torch.testing.assert_close(answer.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(answer.boxes_cxcywh, expected.boxes_cxcywh, atol=1e-4, rtol=1e-4)
