"""The loss of a family of transformers as a criterion of detr_lite."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch import distributed as dist

from detr_lite.families.network import FamilyOutput, LossCall
from detr_lite.families.precision import to_float32
from detr_lite.families.registry import Family
from detr_lite.loss.criterion import Losses
from detr_lite.loss.matcher import MatchingCost
from detr_lite.structures import DetrOutput, Target

PARTS = {
    "class": ("loss_ce", "loss_vfl", "loss_mal"),
    "l1": ("loss_bbox",),
    "giou": ("loss_giou",),
    "fgl": ("loss_fgl",),
}
"""detr_lite's names of the loss terms -> those of transformers, of the last layer."""


@dataclass(frozen=True)
class FamilyCriterion:
    """The family's own matching and losses, in float32, from the arguments that its forward pass has left.

    With several processes, losses are divided by the mean number of objects of all of them, as ours are; those of
    transformers divide by their own process's in most families.

    Args:
        cost: of matching, for queries that are matched outside of the loss.
        config: the configuration of the model.
    """

    family: Family
    cost: MatchingCost
    config: Any

    def __call__(self, output: DetrOutput, targets: Sequence[Target]) -> Losses:
        assert isinstance(output, FamilyOutput)
        assert output.loss_call is not None, "the output of a model in evaluation mode has no loss"
        with torch.autocast(output.logits.device.type, enabled=False):
            total, terms = self._compute(output.loss_call, output)
            if not self.family.reduces_objects:
                share = _share_of_objects(sum(len(target.labels) for target in targets), total)
                total = total * share
                for name, value in terms.items():
                    if name.startswith(self.family.own_means):
                        total = total + (1 - share) * value
        return Losses(total, self._parts(terms, total))

    def _compute(self, call: LossCall, output: DetrOutput) -> tuple[Tensor, Mapping[str, Tensor]]:
        arguments, keywords = _to_float32(call.arguments), _to_float32(call.keywords)
        try:
            total, terms, _ = call.function(*arguments, **keywords)
        except ValueError:
            # Their matching raises on costs that are not finite; the guard of the run wants to see such a loss.
            if output.logits.isfinite().all() and output.boxes_cxcywh.isfinite().all():
                raise
            return output.logits.sum() * float("nan"), {}
        return total, terms

    def _parts(self, terms: Mapping[str, Tensor], total: Tensor) -> dict[str, Float[Tensor, " layer"]]:
        """Unweighted; some families return them weighted."""
        parts = {}
        for part, names in PARTS.items():
            for name in names:
                if name in terms:
                    weight = getattr(self.config, name.replace("loss_", "weight_loss_"), 1.0)
                    parts[part] = (terms[name].float() / weight).reshape(1)
        return parts or {"class": total.detach().reshape(1)}


def _share_of_objects(objects: int, like: Tensor) -> Tensor | float:
    """This process's number of objects relative to the mean of all processes, as they divide losses by them."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1.0
    count = torch.full((), float(objects), device=like.device)  # `torch.tensor` would synchronize
    mean = count.clone()
    dist.all_reduce(mean)
    return count.clamp(min=1) / (mean / dist.get_world_size()).clamp(min=1)


def _to_float32(value: Any) -> Any:
    if isinstance(value, Tensor):
        return to_float32(value)
    if isinstance(value, list | tuple):
        return type(value)(_to_float32(item) for item in value)
    if type(value) is dict:
        return {key: _to_float32(item) for key, item in value.items()}
    return value
