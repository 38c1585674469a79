"""`families`: what each DETR family of transformers can do here, tried on a tiny random model of each."""

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.grid_data import DatasetSpec, generate_dataset
from benchmarks.tiny_families import save_source, tiny_model
from detr_lite.cli import evaluate, predict, train, visualize
from detr_lite.detector import Detector
from detr_lite.families.registry import FAMILIES
from detr_lite.text import reason_of
from detr_lite.weights.export import export_checkpoint

DATA = DatasetSpec(images=8, classes=3, objects=3, pixels=96)
STEPS = ("loads", "predicts", "evaluates", "trains", "resumes", "explorer", "exports")


def families_table(names: Sequence[str] = tuple(FAMILIES)) -> str:
    """Markdown: a row for each family; "yes", or the error where one of its steps failed."""
    lines = ["| family | " + " | ".join(STEPS) + " |", "| --- |" + " --- |" * len(STEPS)]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        with contextlib.redirect_stderr(io.StringIO()):
            generate_dataset(data, DATA)
        _keep_few(data / "annotations" / "instances_val.json")
        for name in tqdm(names, desc="families", leave=False, disable=None):
            results = [_tried(step) for step in _steps(name, data, Path(folder) / name)]
            lines.append(f"| {FAMILIES[name].title} | " + " | ".join(results) + " |")
    return "\n".join(lines)


def _keep_few(annotations: Path) -> None:
    """Leave as many validation images as there are training images."""
    content = json.loads(annotations.read_text())
    images = content["images"][: DATA.images]
    ids = {image["id"] for image in images}
    objects = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    annotations.write_text(json.dumps({**content, "images": images, "annotations": objects}))


def _steps(name: str, data: Path, folder: Path) -> list[Callable[[], object]]:
    """In the order of `STEPS`, each on what those before it have written."""
    with contextlib.redirect_stderr(io.StringIO()):
        source = save_source(tiny_model(name), folder / "source")
    run, image = folder / "run", next((data / "val").iterdir())
    settings = ("--config", "finetune_pretrained.yaml", "--model.source", source, "--data.root", data, "--run_dir", run)
    short = (
        *("--data.num_workers", 0, "--trainer.num_evaluations", 1, "--trainer.accelerator", "cpu"),
        *("--trainer.attention_every_n_epochs", "null"),
    )
    best = run / "checkpoints" / "best.ckpt"

    def call(command: Callable[[Sequence[str]], None], *words: object) -> Callable[[], object]:
        return lambda: command([str(word) for word in words])

    return [
        lambda: Detector.from_pretrained(source, "cpu"),
        call(predict.main, "--checkpoint", source, "--source", image, "--output", folder / "predicted"),
        call(evaluate.main, "--checkpoint", source, "--data.root", data, "--output", folder / "evaluated"),
        call(train.main, *settings, *short, "--trainer.max_epochs", 1),
        call(train.main, *settings, *short, "--trainer.max_epochs", 2, "--resume", "last"),
        call(visualize.main, "--checkpoint", best, "--source", image, "--explore", folder / "explorer.html"),
        lambda: _exported(best, folder / "exported"),
    ]


def _exported(checkpoint: Path, folder: Path) -> None:
    export_checkpoint(checkpoint, folder, "transformers")
    Detector.from_pretrained(folder, "cpu")


def _tried(step: Callable[[], object]) -> str:
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            step()
    except Exception as error:  # the table says what went wrong
        return reason_of(error)
    return "yes"
