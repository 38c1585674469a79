"""The whole path on one batch: a model that cannot overfit it cannot learn."""

import csv
import json
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageDraw

from detr_lite.config import read_config
from detr_lite.training.run import train

COLORS = {5: (220, 40, 40), 11: (40, 60, 230), 70: (30, 190, 60)}
SIDE = 128
SCENES = [  # (category, x, y, width, height)
    [(5, 10, 12, 40, 30), (11, 70, 60, 36, 44)],
    [(70, 40, 60, 60, 48), (5, 50, 8, 30, 34)],
    [(11, 8, 8, 32, 60), (11, 70, 20, 40, 40), (70, 52, 80, 50, 36)],
    [],
]
SMALLER_DETR = {"dim": 128, "encoder_layers": 3, "decoder_layers": 3, "dropout": 0.0}


def write_one_batch(root: Path) -> None:
    """The same four images to train on and to validate on; the last one is empty."""
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (root / split).mkdir()
        content = {"images": [], "annotations": [], "categories": [{"id": i, "name": f"c{i}"} for i in COLORS]}
        for number, objects in enumerate(SCENES):
            name = f"{number}.png"
            image = Image.new("RGB", (SIDE, SIDE), (180, 170, 160))
            for category, x, y, w, h in objects:
                ImageDraw.Draw(image).rectangle((x, y, x + w - 1, y + h - 1), fill=COLORS[category])
                annotation = {"id": len(content["annotations"]) + 1, "image_id": number + 1, "category_id": category}
                content["annotations"].append(annotation | {"bbox": [x, y, w, h], "area": w * h, "iscrowd": 0})
            image.save(root / split / name)
            content["images"].append({"id": number + 1, "file_name": name, "width": SIDE, "height": SIDE})
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


@pytest.mark.stress
@pytest.mark.parametrize(
    ("name", "steps", "model", "optim"),
    [
        ("lite", 120, {}, {}),
        ("detr", 150, SMALLER_DETR, {"lr": 1e-3, "max_grad_norm": 0.1}),
    ],
)
def test_one_batch_is_overfitted(name, steps, model, optim, tmp_path):
    write_one_batch(tmp_path / "data")
    settings = {
        "data": {"root": str(tmp_path / "data"), "batch_size": 4, "augmentation": "none", "num_workers": 0},
        "model": {"name": name, "pretrained": False, "num_queries": 8, **model},
        "optim": optim,
        "trainer": {"max_epochs": steps, "num_evaluations": 2, "accelerator": "cpu", "precision": "32-true"},
    }
    config = tmp_path / "one_batch.yaml"
    config.write_text(yaml.safe_dump(settings))
    train(read_config(["--config", str(config), "--run_dir", str(tmp_path / "run")]))
    metrics = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    assert metrics["AP"] >= 0.99
    if name == "lite":  # queries look at their objects
        *_, last = csv.DictReader((tmp_path / "run" / "attention.csv").open())
        assert float(last["inside"]) > 1.5 * float(last["box_area"])
