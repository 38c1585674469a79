"""Parts of a pretrained backbone that are not trained: batch norm and the first stage."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from detr_lite.structures import DetrLiteError

FIRST_STAGE_STRIDE = 4


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
        self.is_folded = False  # into the convolution before it (folding.py)
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().clone())
        # Of timm's BatchNormAct2d.
        self.drop = getattr(norm, "drop", None) or nn.Identity()
        self.act = getattr(norm, "act", None) or nn.Identity()

    def scale_and_shift(self) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, features: Float[Tensor, "batch channel height width"]) -> Tensor:
        if self.is_folded:
            return self.act(self.drop(features))  # type: ignore[no-any-return]
        # In this order float32 features are the original DETR's to the last bit; `F.batch_norm` rounds differently.
        scale, shift = self.scale_and_shift()
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
    """Freeze the stem and the first stage, which ends at stride 4, of a timm network that returns maps.

    Errors: a network without such a stage, such as a plain ViT.
    """
    frozen = first_stage(network)
    if not frozen:
        raise DetrLiteError(
            f"model.freeze_first_stage: {name} has no stage that ends at stride {FIRST_STAGE_STRIDE}; "
            "set --model.freeze_first_stage false"
        )
    for parameter in frozen:
        parameter.requires_grad_(False)


def first_stage(network: Any) -> list[nn.Parameter]:
    """The parameters of the stem and the first stage; none if the network has no stage that ends at stride 4."""
    ends = [flat_name(info["module"]) for info in network.feature_info.info if info["reduction"] == FIRST_STAGE_STRIDE]
    # timm registers modules in the order of the forward pass.
    parameters = [(flat_name(key), parameter) for key, parameter in network.named_parameters()]
    inside = [index for index, (key, _) in enumerate(parameters) if ends and key.startswith(f"{ends[-1]}_")]
    return [parameter for _, parameter in parameters[: inside[-1] + 1]] if inside else []


def flat_name(name: str) -> str:
    """A weight's name, the same whether or not timm has wrapped the network or flattened its stages."""
    return name.removeprefix("model.").replace(".", "_")
