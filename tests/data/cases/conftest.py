"""One sound dataset of a few drawn images, and copies of it with one fault each."""

from collections.abc import Callable
from pathlib import Path

import pytest

from detr_lite.data.reading import Reading, read_dataset
from detr_lite.data.records import Split
from detr_lite.structures import DetrLiteError
from tests.helpers.case_data import CaseData, copy_dataset, draw_dataset

Splits = dict[str, Split]


@pytest.fixture(scope="session")
def sound_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 images for training and 4 for validation with two objects each, to be read only."""
    root = tmp_path_factory.mktemp("sound") / "data"
    draw_dataset(root)
    return root


@pytest.fixture(scope="session")
def larger_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images for training and 10 for validation, by which a whole file can be judged; to be read only."""
    root = tmp_path_factory.mktemp("larger") / "data"
    draw_dataset(root, {"train": 40, "val": 10})
    return root


@pytest.fixture(scope="session")
def sound(sound_data: Path) -> Splits:
    return read_dataset(sound_data)


@pytest.fixture
def spoil(sound_data: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the sound dataset, or of another, with a fault."""

    def spoil(fault: Callable[[CaseData], object], source: Path = sound_data) -> Path:
        data = copy_dataset(source, tmp_path / "spoiled")
        fault(data)
        data.save()
        return data.root

    return spoil


@pytest.fixture
def read_spoiled(spoil: Callable[..., Path]) -> Callable[..., Splits]:
    """Both splits of the dataset with a fault, which is not refused."""

    def read(fault: Callable[[CaseData], object], reading: Reading | None = None, **given: Path) -> Splits:
        return read_dataset(spoil(fault, **given), reading=reading)

    return read


@pytest.fixture
def refusals(spoil: Callable[..., Path]) -> Callable[..., str]:
    """Why a dataset with a fault is refused, in one line."""

    def refuse(fault: Callable[[CaseData], object], reading: Reading | None = None, **given: Path) -> str:
        root = spoil(fault, **given)
        with pytest.raises(DetrLiteError) as refused:
            read_dataset(root, reading=reading)
        message = str(refused.value)
        assert "\n" not in message
        return message

    return refuse
