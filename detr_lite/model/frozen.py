"""What of a pretrained backbone does not train: its batch norms, and in the original its first stage."""

from jaxtyping import Float
from torch import Tensor, nn

from detr_lite.structures import DetrLiteError


class FrozenBatchNorm(nn.Module):
    """Batch norm with fixed statistics and scales, as the original's for pretrained weights.

    Same keys as `nn.BatchNorm2d` but for the step counter, so that weights load either way.
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
        # timm folds activation (and drop-block) into some of its norms; what follows the normalisation must stay.
        self.drop = getattr(norm, "drop", None) or nn.Identity()
        self.act = getattr(norm, "act", None) or nn.Identity()

    def forward(self, features: Float[Tensor, "batch channel height width"]) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        normalised = features * scale[:, None, None].to(features.dtype) + shift[:, None, None].to(features.dtype)
        return self.act(self.drop(normalised))  # type: ignore[no-any-return]


def freeze_batch_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm(child))
        else:
            freeze_batch_norms(child)


def freeze_first_layers(name: str, network: nn.Module) -> None:
    """Edges and textures are the same in all photographs: a pretrained ResNet's first layers stay as they are."""
    parts = dict(network.named_children())
    first = ("conv1", "bn1", "layer1")
    if not all(part in parts for part in first):
        raise DetrLiteError(
            f"model.freeze_first_stage is for ResNets, and {name} is built otherwise (it has no {', '.join(first)}); "
            "set --model.freeze_first_stage false"
        )
    for part in first:
        parts[part].requires_grad_(False)
