"""Compiled models, in a process of their own: the tests' checks of shapes are not to be compiled."""

import copy
import sys

import torch
from torch._dynamo.utils import counters

from detr_lite.build import build_criterion, build_model
from detr_lite.config import Config, ModelConfig
from detr_lite.data.collate import pad_to_multiple
from detr_lite.structures import Batch, Target
from detr_lite.training.compilation import compile_parts, undo_compilation


def make_batch(objects: tuple[int, ...], height: int, width: int) -> Batch:
    targets = [
        Target(torch.rand(count, 4) * 0.3 + 0.3, torch.randint(0, 5, (count,)), index, (height, width))
        for index, count in enumerate(objects)
    ]
    return Batch.from_images([torch.randn(3, height - 3 * index, width) for index in range(len(objects))], targets)


def compare(name: str, backend: str) -> None:
    """Losses, gradients, weights' names and statistics are those without; no graph breaks, one graph for a shape."""
    torch.manual_seed(0)
    sizes = {"dim": 32, "heads": 2, "feedforward_dim": 32, "num_queries": 6, "denoising_queries": 12}
    settings = ModelConfig(name=name, pretrained=False, decoder_layers=2, dropout=0.0, **sizes)  # type: ignore[arg-type]
    plain = build_model(settings, 5).train()
    compiled = copy.deepcopy(plain)
    compile_parts(compiled, backend, fullgraph=True)
    names = list(plain.state_dict())
    assert list(compiled.state_dict()) == names
    criterion = build_criterion(Config(model=settings), 5)
    batches = [make_batch((2, 1), 60, 64), make_batch((0, 5), 62, 50), make_batch((3, 3), 30, 64)]
    for batch in [pad_to_multiple(each, 32) for each in batches]:
        losses = []
        for model in (plain, compiled):
            torch.manual_seed(1)
            assert batch.targets is not None
            loss = criterion(model(batch), batch.targets).total
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-5)
    for (key, one), other in zip(compiled.named_parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert (one.grad - other.grad).norm() <= 1e-3 * other.grad.norm() + 1e-5, key
    for one, other in zip(compiled.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not counters["graph_break"]
    # Backbone, encoder and decoder, of two padded sizes, whatever the number of objects.
    assert counters["stats"]["unique_graphs"] == 6, counters["stats"]
    undo_compilation(compiled)
    assert list(copy.deepcopy(compiled).state_dict()) == names


if __name__ == "__main__":
    compare(*sys.argv[1:3])
    print("equal")
