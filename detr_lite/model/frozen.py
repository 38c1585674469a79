"""Parts of a pretrained backbone that are not trained: batch norm, and in DETR the first stage."""

from jaxtyping import Float
from torch import Tensor, nn

from detr_lite.structures import DetrLiteError


class FrozenBatchNorm(nn.Module):
    """Batch norm with fixed statistics and affine parameters (DETR, appendix A.4).

    The state_dict keys are those of `nn.BatchNorm2d` without the step counter, so that weights load either way. Unlike
    `timm.layers.freeze_batch_norm_2d` it returns bfloat16 for bfloat16 features instead of promoting them to float32.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().clone())
        # Of timm's BatchNormAct2d.
        self.drop = getattr(norm, "drop", None) or nn.Identity()
        self.act = getattr(norm, "act", None) or nn.Identity()

    def forward(self, features: Float[Tensor, "batch channel height width"]) -> Tensor:
        # In this order float32 features are the original DETR's to the last bit; `F.batch_norm` rounds differently.
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        # Half-precision features are scaled in float32 and rounded once.
        normalized = (features * scale[:, None, None] + shift[:, None, None]).to(features.dtype)
        return self.act(self.drop(normalized))  # type: ignore[no-any-return]


def freeze_batch_norms(module: nn.Module) -> None:
    """Replace every `nn.BatchNorm2d` in the module by a `FrozenBatchNorm` with its values."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm(child))
        else:
            freeze_batch_norms(child)


def freeze_first_layers(name: str, network: nn.Module) -> None:
    """Freeze the stem and the first stage of a ResNet, as the original DETR does.

    Errors: a network that is not a ResNet.
    """
    modules = dict(network.named_children())
    frozen = ("conv1", "bn1", "layer1")
    if not all(module in modules for module in frozen):
        raise DetrLiteError(
            f"model.freeze_first_stage is for ResNets, and {name} is not one (it has no {', '.join(frozen)}); "
            "set --model.freeze_first_stage false"
        )
    for module in frozen:
        modules[module].requires_grad_(False)
