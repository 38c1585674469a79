"""Heads of transformers' models in float32 under autocast."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from detr_lite.families.registry import Network

HEADS = (
    *("class_embed", "bbox_embed", "class_labels_classifier", "bbox_predictor"),
    *("enc_score_head", "enc_bbox_head", "pre_bbox_head", "enc_out_class_embed", "enc_out_bbox_embed"),
)
"""Last part of the heads' names in the various families; no family has all of them."""


def compute_heads_in_float32(network: Network) -> None:
    """Let every head leave autocast and compute in float32; without autocast nothing changes.

    By hooks, so that names in the state_dict stay those of transformers and copies of the model have them, too.
    """
    seen: set[nn.Module] = set()  # some decoders hold a second reference to the heads
    for name, module in network.named_modules():
        heads = module if isinstance(module, nn.ModuleList) else [module]
        if name.rpartition(".")[2] in HEADS:
            for head in heads:
                if head not in seen:
                    seen.add(head)
                    hook = _Float32()
                    head.register_forward_pre_hook(hook.enter)
                    head.register_forward_hook(hook.leave, always_call=True)


def to_float32(value: Tensor) -> Tensor:
    """The same if it is not of half precision."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


class _Float32:
    """Enters a region without autocast before a module computes, and leaves it afterwards."""

    def __init__(self) -> None:
        self._regions: list[AbstractContextManager[Any]] = []

    def enter(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        device = next(value.device for value in arguments if isinstance(value, Tensor))
        region: AbstractContextManager[Any] = torch.autocast(device.type, enabled=False)
        region.__enter__()
        self._regions.append(region)
        return tuple(to_float32(value) if isinstance(value, Tensor) else value for value in arguments)

    def leave(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        self._regions.pop().__exit__(None, None, None)
