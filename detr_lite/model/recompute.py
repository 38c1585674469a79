"""Gradient checkpointing (arXiv 1604.06174): activations are computed again in the backward pass, not kept."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")


def recomputed(function: Callable[..., Result], *arguments: Any) -> Result:
    """`function(*arguments)`, of which only arguments and result are kept for the backward pass.

    Random numbers, as of dropout, are the same the second time, and so are the gradients.
    """
    if not torch.is_grad_enabled():
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False)


@contextmanager
def recomputed_blocks(network: nn.Module, changed: Mapping[str, Tensor]) -> Iterator[None]:
    """Within this context every residual block of a backbone keeps only its input for the backward pass.

    Batch norms update their running statistics once.

    Args:
        changed: weights that the network is called with instead of its own, by name; they are used again.
    """
    blocks = dict(residual_blocks(network)) if torch.is_grad_enabled() else {}
    for name, block in blocks.items():
        inside = {key.removeprefix(f"{name}."): value for key, value in changed.items() if key.startswith(f"{name}.")}
        # Undone below, so that copies and checkpoints of the model know nothing of it.
        block.forward = partial(_recompute_block, block, inside)
    try:
        yield
    finally:
        for block in blocks.values():
            del block.forward


def residual_blocks(network: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The outermost modules with parts of their own in the sequences that a timm network consists of, with names."""
    for key, child in network.named_children():
        path = f"{name}.{key}" if name else key
        is_container = isinstance(child, nn.Sequential | nn.ModuleList)
        if is_container or not isinstance(network, nn.Sequential | nn.ModuleList):
            yield from residual_blocks(child, path)
        elif any(True for _ in child.children()):
            yield path, child


def _recompute_block(block: nn.Module, changed: Mapping[str, Tensor], *arguments: Any, **keywords: Any) -> Any:
    def run(*arguments: Any) -> Any:
        if "forward" in vars(block):  # the network is being called, with these weights in place
            return type(block).forward(block, *arguments, **keywords)
        return functional_call(block, dict(changed), arguments, keywords)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _fixed_statistics(block)

    return checkpoint(run, *arguments, use_reentrant=False, context_fn=contexts)


@contextmanager
def _fixed_statistics(block: nn.Module) -> Iterator[None]:
    """Batch norms in training mode update copies of their running statistics, which are then forgotten."""
    norms = [norm for norm in block.modules() if isinstance(norm, _BatchNorm)]
    kept = [dict(norm._buffers) for norm in norms]
    for norm in norms:
        norm._buffers.update({name: None if value is None else value.clone() for name, value in norm._buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)
