"""What the code of transformers needs so that torch can export it for any number of images."""

import builtins
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from detr_lite.families.registry import Network


@contextmanager
def exportable(network: Network) -> Iterator[None]:
    """Within it, two functions are others in the modules of transformers that make up the network.

    * `len(tensor)` may be a symbol. Python's own must return a number, by which the graph would be fixed to one batch
      size.
    * `torch_compilable_check` does nothing. Its assertions on values have no counterpart in ONNX.
    """
    names = {type(module).__module__ for module in network.modules()}
    scopes = [vars(sys.modules[name]) for name in names if name.startswith("transformers.")]
    replaced = {"len": _len, "torch_compilable_check": _check_nothing}
    before = [{name: scope[name] for name in replaced if name in scope} for scope in scopes]
    for scope in scopes:
        scope.update(replaced)
    try:
        yield
    finally:
        for scope, own in zip(scopes, before, strict=True):
            for name in replaced:
                del scope[name]
            scope.update(own)


def _len(sized: Any) -> Any:
    return sized.shape[0] if isinstance(sized, Tensor) else builtins.len(sized)


def _check_nothing(*_: Any, **__: Any) -> None:
    return None
