"""A dataset as Roboflow exports it goes through training and evaluation as it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def as_roboflow(content: dict[str, Any]) -> dict[str, Any]:
    """A COCO file as Roboflow exports it: ids from 0, and a category for the project."""
    ids = {category["id"]: number for number, category in enumerate(content["categories"], start=1)}
    categories = [{**one, "id": ids[one["id"]], "supercategory": "things"} for one in content["categories"]]
    annotations = [
        {**one, "id": number, "category_id": ids[one["category_id"]]}
        for number, one in enumerate(content["annotations"])
    ]
    project = {"id": 0, "name": "things", "supercategory": "none"}
    return {**content, "categories": [project, *categories], "annotations": annotations}


@pytest.mark.stress
def test_training_and_evaluation_in_roboflows_layout(
    run_tool: Callable[..., Any], tiny_file: Path, own_data: Path, tmp_path: Path
) -> None:
    for split, folder in (("train", "train"), ("val", "valid")):
        content = json.loads((own_data / "annotations" / f"instances_{split}.json").read_text())
        (own_data / split).rename(own_data / folder)
        (own_data / folder / "_annotations.coco.json").write_text(json.dumps(as_roboflow(content)))
        (own_data / "annotations" / f"instances_{split}.json").unlink()
    (own_data / "annotations").rmdir()
    words = ("--data.root", own_data, "--run_dir", tmp_path / "run", "--trainer.max_epochs", 1)
    ended = run_tool("train", "--config", tiny_file, *words)
    assert ended.code == 0, ended.err
    for folder in ("train", "valid"):
        file = f"{folder}/_annotations.coco.json"
        assert f"{own_data / file} (COCO): " in ended.out
        assert f"{file}: category 0, 'things', is left out" in ended.out
    metrics = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    assert metrics["AP"] >= 0
    ended = run_tool("evaluate", "--checkpoint", tmp_path / "run/checkpoints/best.ckpt", "--split", "valid")
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text()) == metrics
