"""Reads what attention modules of `transformers` compute, without changing what they return.

Each function installs itself on the modules of one network and gives the function that takes it off again.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import FunctionType, MethodType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from detr_lite.structures import DetrLiteError

Undo = Callable[[], object]
OnDense = Callable[[Tensor, Tensor, Any, float | None], None]
"""Gets query and key (batch head row dim), attention mask and scaling."""
OnSamples = Callable[[Tensor, Tensor, Sequence[int], Sequence[Sequence[int]], bool], None]
"""Gets locations (batch query head point 2) and weights (batch query head point), the number of points of each level,
its (height, width), and whether points take the nearest token."""

_INTERFACE = "detr_lite_capture"
_WRITTEN_OUT = "detr_lite_written_out"
_CORE = "multi_scale_deformable_attention_v2"


def on_dense_attention(module: nn.Module, callback: OnDense) -> Undo:
    """Calls back with query and key of attention that goes through the attention functions of `transformers`.

    The module gets a config that names our attention function, which calls the network's own and returns its result.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(_INTERFACE, _attend)
    config = module.config
    module.config = _Recording(config, callback)  # type: ignore[assignment]
    return lambda: setattr(module, "config", config)


def on_dense_weights(module: nn.Module, callback: Callable[[Tensor], None]) -> Undo:
    """Calls back with the weights of such attention, of which its output is made, so that it can be differentiated with
    respect to them."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(_WRITTEN_OUT, _attend_written_out)
    config = module.config
    module.config = _WritingOut(config, callback)  # type: ignore[assignment]
    return lambda: setattr(module, "config", config)


def on_returned_weights(module: nn.Module, callback: Callable[[Tensor], None]) -> Undo:
    """Calls back with the weights of attention that always computes them and returns them on request (DAB-DETR)."""

    def request(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "output_attentions": True}

    def read(module: nn.Module, args: Any, output: Any) -> None:
        callback(output[1])

    hooks = ExitStack()
    hooks.callback(module.register_forward_pre_hook(request, with_kwargs=True).remove)
    hooks.callback(module.register_forward_hook(read).remove)
    return hooks.close


def on_deformable_attention(module: nn.Module, callback: OnSamples) -> Undo:
    """Calls back with the samples of deformable attention, in whichever of three places the module computes them."""
    if isinstance(core := getattr(module, "attn", None), nn.Module):
        return _on_submodule(core, callback)
    if hasattr(module, "ms_deformable_attn_core"):
        return _on_attribute(module, "ms_deformable_attn_core", callback)
    return _on_global(module, _CORE, callback)


def attention_rows(
    query: Float[Tensor, "batch head row dim"],
    key: Float[Tensor, "batch head token dim"],
    attention_mask: Any,
    scaling: float | None,
) -> Float[Tensor, "batch head row token"]:
    """The weights of scaled dot-product attention.

    Args:
        attention_mask: None, or a tensor that broadcasts to the result: True = may attend, or added to the scores.
    """
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        if attention_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores + attention_mask
    return scores.softmax(-1)


def full_mask(attention_mask: Any, query: Tensor, key: Tensor) -> Tensor | None:
    """A mask in the form that the network's attention function takes, as a view (batch head row token).

    Errors: a mask that is not a tensor (flex attention).
    """
    if attention_mask is None:
        return None
    if not isinstance(attention_mask, Tensor):
        raise DetrLiteError("flex attention does not show its weights; load the model with attn_implementation='sdpa'")
    mask: Tensor = attention_mask
    if mask.ndim == 2:  # of flash attention: the tokens that may be attended to
        mask = mask.bool()[:, None, None]
    return mask.expand(*query.shape[:3], key.shape[2])


class _OtherFunction:
    """A module's config, except that it names an attention function of ours."""

    def __init__(self, config: Any, callback: Callable[..., None]) -> None:
        self.config = config
        self.callback = callback

    def __getattr__(self, name: str) -> Any:
        return getattr(self.config, name)


class _Recording(_OtherFunction):
    _attn_implementation = _INTERFACE


class _WritingOut(_OtherFunction):
    _attn_implementation = _WRITTEN_OUT


def _attend_written_out(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
) -> Any:
    recording = module.config
    weights = attention_rows(query, key, full_mask(attention_mask, query, key), kwargs.get("scaling"))
    recording.callback(weights)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def _attend(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any) -> Any:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    config = module.config
    while isinstance(config, _Recording):  # several, where captures are nested
        config.callback(query, key, attention_mask, kwargs.get("scaling"))
        config = config.config
    eager = sys.modules[type(module).__module__].eager_attention_forward
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, eager)
    return attend(module, query, key, value, attention_mask, **kwargs)


def _on_submodule(core: nn.Module, callback: OnSamples) -> Undo:
    def read(module: nn.Module, args: Any) -> Any:
        value, shapes, grids, start, locations, weights, *rest = args
        points = [locations.shape[-2]] * len(grids)
        flat = weights.flatten(3)
        callback(locations.flatten(3, 4), flat, points, grids, False)
        # What the module gets is made of what the callback got, which can have a gradient.
        return (value, shapes, grids, start, locations, flat.view_as(weights), *rest)

    return core.register_forward_pre_hook(read).remove


def _on_attribute(module: Any, name: str, callback: OnSamples) -> Undo:
    core = getattr(module, name)
    setattr(module, name, _reading(core, callback))
    return lambda: setattr(module, name, core)


def _on_global(module: nn.Module, name: str, callback: OnSamples) -> Undo:
    """Gives this instance a forward method of its own that sees another function under a global name.

    Replacing the global itself would reach every other network of the family.
    """
    method = module.forward
    forward = getattr(method, "__func__", None)
    if forward is None or name not in forward.__code__.co_names:
        raise DetrLiteError(
            f"{type(module).__name__} does not call {name} as in transformers 5.24, so its attention cannot be shown"
        )
    scope = {**forward.__globals__, name: _reading(forward.__globals__[name], callback)}
    reading = FunctionType(forward.__code__, scope, forward.__name__, forward.__defaults__, forward.__closure__)
    reading.__kwdefaults__ = forward.__kwdefaults__
    was_own = "forward" in vars(module)
    module.forward = MethodType(reading, module)
    return (lambda: setattr(module, "forward", method)) if was_own else (lambda: delattr(module, "forward"))


def _reading(core: Callable[..., Tensor], callback: OnSamples) -> Callable[..., Tensor]:
    def read(
        value: Tensor, grids: Any, locations: Tensor, weights: Tensor, points: list[int], method: str = "default"
    ) -> Tensor:
        callback(locations, weights, points, grids, method == "discrete")
        return core(value, grids, locations, weights, points, method)

    return read
