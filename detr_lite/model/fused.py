"""Networks whose convolutions, on CPUs, contain the batch norm, the sum and the activation that follow them."""

import operator
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from detr_lite.model.folding import call_folded
from detr_lite.model.frozen import FrozenBatchNorm
from detr_lite.model.fused_conv import ONEDNN_ACTIVATIONS, FusedConv, has_fixed_statistics
from detr_lite.model.onednn import can_use_onednn

_TRACING = threading.Lock()
"""One thread traces at a time: each puts back what it found, in the order that it ends."""


class FusedNetwork:
    """A network's maps with what follows a convolution computed with it, in less time and equal but for rounding.

    Batch norm with fixed statistics becomes a part of the weights (as in `torch.nn.utils.fuse_conv_bn_eval`). oneDNN
    adds the residual and applies the activation while a convolution's output is in the cache, and in inference finds
    the weights in its own order. These copies of the weights are made at the first call and again whenever the network
    has others. Nothing is fused in networks without batch norm or that `torch.fx` cannot trace, nor where the maps of
    an image would differ.

    Args:
        pairs: of `fold_batch_norms`.
        image: any values, of a size that the network accepts.
    """

    def __init__(self, network: nn.Module, pairs: Mapping[str, str], image: Float[Tensor, "1 3 height width"]) -> None:
        self.lock = threading.Lock()
        self.source: _Source | None = None
        self.parts = tuple(network.modules())
        was_training = network.training
        network.eval()
        traced = _trace(network)
        is_equal = traced is not None and _gives_equal_maps(network, pairs, traced, image)
        self.traced = traced if is_equal else None
        network.train(was_training)
        # Traced in evaluation mode, in which dropout and batch norm compute something else than in training.
        self.is_same_in_training = not any(_depends_on_mode(module) for module in self.parts)

    def is_of(self, network: nn.Module) -> bool:
        """Whether the network consists of the same modules still, whose weights may be others."""
        parts = tuple(network.modules())
        return len(parts) == len(self.parts) and all(map(operator.is_, parts, self.parts))

    def release(self) -> None:
        """Free the copies of the weights."""
        self.source = None
        for module in fused_convs(self.traced):
            module.release()

    def __call__(self, images: Float[Tensor, "batch 3 height width"]) -> list[Tensor] | None:
        """The maps; None if nothing is fused."""
        is_training = torch.is_grad_enabled() or any(part.training for part in self.parts)
        if self.traced is None or (is_training and not self.is_same_in_training):
            return None
        if not torch.is_grad_enabled():
            self._update_weights(fused_convs(self.traced))
        return list(self.traced(images))

    def _update_weights(self, modules: list[FusedConv]) -> None:
        with self.lock:
            source = _Source.of(modules)
            if self.source is None or not self.source.equals(source):
                for module in modules:
                    module.prepare()
                self.source = source


@dataclass(frozen=True)
class _Source:
    """Which weights were copied; tells whether the network has the same ones still."""

    versions: tuple[tuple[int, int], ...]
    sample: Float[Tensor, " value"]
    """The first channel of each, since a write to `tensor.data` leaves the version as it is."""

    @staticmethod
    @torch.no_grad()
    def of(modules: list[FusedConv]) -> "_Source":
        tensors = [tensor for module in modules for tensor in module.tensors()]
        versions = tuple((tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version) for tensor in tensors)
        return _Source(versions, torch.cat([tensor[:1].flatten() for tensor in tensors]))

    def equals(self, other: "_Source") -> bool:
        return self.versions == other.versions and torch.equal(self.sample, other.sample)


class _Tracer(fx.Tracer):
    """Does not look into convolutions and batch norms of timm, nor at what other threads compute meanwhile.

    For as long as it traces, `torch.fx` replaces `nn.Module.__call__` and `__getattr__` of the whole process.
    """

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_layer = isinstance(m, nn.Conv2d | nn.BatchNorm2d | FrozenBatchNorm)
        return is_layer or super().is_leaf_module(m, module_qualified_name)


def _trace(network: nn.Module) -> fx.GraphModule | None:
    if not any(isinstance(module, nn.BatchNorm2d | FrozenBatchNorm) for module in network.modules()):
        return None
    try:
        with _TRACING:
            graph = _Tracer().trace(network)
    except Exception:  # its type depends on the network: control flow that depends on values, for one
        return None
    modules: dict[str, Any] = dict(network.named_modules())
    for node in list(graph.nodes):
        if isinstance(_module(node, modules), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    fused = nn.ModuleDict()
    for node in list(graph.nodes):
        conv = _module(node, modules)
        if isinstance(conv, nn.Conv2d):
            name = f"fused_{len(fused)}"
            fused[name] = _fuse(graph, node, conv, modules, name)
    if any(getattr(_module(node, modules), "is_folded", False) for node in graph.nodes):
        return None  # its convolution is not the one before it here
    root = nn.Module()
    for name, module in [*network.named_children(), *fused.named_children()]:
        root.add_module(name, module)
    graph.lint()
    return fx.GraphModule(root, graph)


def _fuse(graph: fx.Graph, node: fx.Node, conv: nn.Conv2d, modules: Mapping[str, Any], name: str) -> FusedConv:
    """Replace the convolution, and the nodes that follow it alone, by one node."""
    last, norm = node, None
    activation: nn.Module = nn.Identity()
    following = _only_user(last)
    if following is not None and has_fixed_statistics(module := _module(following, modules)):
        last, norm, activation = following, module, getattr(module, "act", activation)
    added = None
    if isinstance(activation, nn.Identity):
        following = _only_user(last)
        # The sum must come before the next activation, and its other term be known where the convolution is.
        if following is not None and following.target in (operator.add, operator.iadd, torch.add):
            first, second = following.args[:2]
            other = second if first is last else first
            after = _only_user(following)
            is_relu = after is not None and isinstance(_module(after, modules), nn.ReLU)
            if is_relu and isinstance(other, fx.Node) and other is not last and not following.kwargs and other < last:
                last, added = following, other
        following = _only_user(last)
        if following is not None and type(module := _module(following, modules)) in ONEDNN_ACTIVATIONS:
            last, activation = following, module
    with graph.inserting_after(last):
        call = graph.call_module(name, (node.args[0],) if added is None else (node.args[0], added))
    last.replace_all_uses_with(call)
    while last is not node:
        before = next(arg for arg in last.args if isinstance(arg, fx.Node) and arg is not added)
        graph.erase_node(last)
        last = before
    graph.erase_node(node)
    return FusedConv(conv, norm, activation)


def _module(node: fx.Node, modules: Mapping[str, Any]) -> Any:
    return modules.get(str(node.target)) if node.op == "call_module" else None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def fused_convs(traced: fx.GraphModule | None) -> list[FusedConv]:
    modules = [] if traced is None else traced.modules()
    return [module for module in modules if isinstance(module, FusedConv)]


@torch.no_grad()
def _gives_equal_maps(network: nn.Module, pairs: Mapping[str, str], traced: fx.GraphModule, image: Tensor) -> bool:
    modules = fused_convs(traced)
    try:
        for module in modules:
            module.prepare()
        found = list(traced(image.clone()))
    except (RuntimeError, AttributeError):  # a torch without these functions of oneDNN
        return False
    finally:
        for module in modules:
            module.release()
    return all(
        new.shape == old.shape and torch.allclose(new, old, rtol=1e-3, atol=1e-3 * float(old.abs().max()))
        for new, old in zip(found, call_folded(network, pairs, image.clone()), strict=True)
    )


def can_fuse(network: nn.Module, images: Tensor) -> bool:
    """Whether oneDNN can compute with these images, and nobody observes single layers of the network."""
    if not can_use_onednn(images):
        return False
    return not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def _depends_on_mode(module: nn.Module) -> bool:
    """Whether it computes something else in training: trained batch norm, dropout, timm's stochastic depth."""
    rates = (getattr(module, name, None) for name in ("p", "drop_prob", "drop_rate", "drop_path_rate"))
    is_dropping = any(isinstance(rate, float) and rate > 0 for rate in rates)
    return is_dropping or isinstance(module, nn.modules.batchnorm._BatchNorm)
