"""Checkpoints of other programs, and batches on which predictions are compared."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from detr_lite.structures import Batch
from tests.helpers.reference_models import OriginalDetr, original_detr, save_pth, transformers_detr

BATCHES = {
    "one image": [(64, 96)],
    "equal sizes": [(64, 64), (64, 64)],
    "padded": [(70, 101), (129, 45)],
}


@pytest.fixture(params=BATCHES)
def batch(request: pytest.FixtureRequest) -> Batch:
    torch.manual_seed(2)
    return Batch.from_images([torch.randn(3, *size) for size in BATCHES[request.param]])


@pytest.fixture(scope="session")
def original() -> tuple[OriginalDetr, Namespace]:
    """The original and its arguments; read-only."""
    return original_detr()


@pytest.fixture(scope="session")
def reference() -> Any:
    """The DETR of `transformers`; read-only."""
    return transformers_detr()


@pytest.fixture
def pth(original: tuple[OriginalDetr, Namespace], tmp_path: Path) -> Path:
    """A training checkpoint of the original."""
    return save_pth(tmp_path / "checkpoint.pth", *original)


@pytest.fixture
def folder(reference: Any, tmp_path: Path) -> Path:
    """A folder as `transformers` saves it."""
    reference.save_pretrained(tmp_path / "transformers")
    return tmp_path / "transformers"


@pytest.fixture
def edit_config(folder: Path) -> Callable[..., Path]:
    """Change the config.json of `folder`; None removes a key."""

    def edit(**changes: Any) -> Path:
        file = folder / "config.json"
        config = {**json.loads(file.read_text()), **changes}
        file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
        return folder

    return edit
