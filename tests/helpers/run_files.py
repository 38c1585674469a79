"""What a run left in its folder."""

import csv
from pathlib import Path
from typing import Any

import torch


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def timeless_rows_of(folder: Path) -> list[dict[str, str]]:
    """The log without the minutes, in which no two runs agree."""
    return [{key: value for key, value in row.items() if key != "minutes"} for row in rows_of(folder)]


def checkpoint_of(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def weights_of(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return checkpoint_of(folder, name)["state_dict"]


def assert_same_end(folder: Path, expected: Path, atol: float = 1e-6) -> None:
    """Weights, averaged and not, optimizer, and log of two runs agree."""
    ours, theirs = checkpoint_of(folder), checkpoint_of(expected)
    assert ours["global_step"] == theirs["global_step"]
    states = [name for name in ("state_dict", "current_model_state") if name in theirs]
    pairs = {f"{name}.{key}": (ours[name][key], value) for name in states for key, value in theirs[name].items()}
    for number, moments in theirs["optimizer_states"][0]["state"].items():
        for key, value in moments.items():
            pairs[f"{key} of {number}"] = (ours["optimizer_states"][0]["state"][number][key], value)
    for name, (value, other) in pairs.items():
        torch.testing.assert_close(value, other, atol=atol, rtol=0, msg=name)
    assert timeless_rows_of(folder) == timeless_rows_of(expected)
