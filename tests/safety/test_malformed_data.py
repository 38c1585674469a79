"""Files that are not what they should be end in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

Tool = Callable[..., Any]


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 200_000, '{"images": ' * 50_000, "NaN", "9" * 5000, '{"images": NaN}', "\x00", '"\\ud800"'),
        json.dumps({"images": [{"id": 1e999, "file_name": "000.png", "width": 64, "height": 48}]}),
    ],
)
def test_json_that_is_not_coco_is_one_line(
    refusal: Callable[..., str], own_data: Path, checkpoint: Path, words: Tool, tmp_path: Path, text: str
) -> None:
    (own_data / "annotations" / "instances_val.json").write_text(text)
    message = refusal(*words("evaluate", checkpoint), "--data.root", own_data)
    assert message.startswith("annotations/instances_val.json: ")
    beside = tmp_path / "model.json"
    beside.write_text(text)
    (tmp_path / "model.safetensors").write_bytes(safetensors.torch.save({"weight": torch.zeros(1)}))
    refusal(*words("predict", tmp_path / "model.safetensors"))


@pytest.mark.parametrize("box", [[0, 0, "a", 10**15], [0, 0, [1], 10**15], [0, 0, 10**400, 1], [0, 0, "nan", 1]])
def test_boxes_that_are_not_numbers_are_one_line(
    refusal: Callable[..., str], edit_annotations: Callable[..., Path], checkpoint: Path, words: Tool, box: list[Any]
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0].update(bbox=box, area=None)

    root = edit_annotations("val", change)
    message = refusal(*words("evaluate", checkpoint), "--data.root", root)
    assert "1 of 6 annotations would be left out" in message
    assert "annotation 1)" in message
    assert len(message) < 500
