"""Commands on wrong input: one line that says what to do, exit code 2, no traceback, and no run folder."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.spoiled_images import spoil_after_the_check
from tests.helpers.waiting import PATIENCE

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def train_refusal(refusal: Callable[..., str], tiny_file: Path, tmp_path: Path) -> Callable[..., str]:
    """Refusal of `tools/train.py` with the tiny settings; nothing may have been written."""

    def run(*words: object, config: object = tiny_file) -> str:
        message = refusal("train", "--config", config, "--run_dir", tmp_path / "run", *words)
        assert not (tmp_path / "run").exists()
        return message

    return run


@pytest.fixture
def checkpoint(finished_run: Path) -> Path:
    return finished_run / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--data.bach_size", "3"], ["--data.bach_size is not a setting; did you mean data.batch_size?"]),
        (["--data.num_workers", "two"], ["data.num_workers: expected int or null, got two"]),
        (["--model.dropout", "2"], ["model.dropout is 2.0", "at most 1"]),
        (["--trainer.max_epochs", "1", "--trainer.max_minutes", "1"], ["not both"]),
        (["--data.root", "nowhere"], ["nowhere: no such data folder", "--data.root"]),
        (["--model.backbone", "resnet10"], ["timm has no model named 'resnet10'", "resnet10t"]),
        (["--model.strides", "[7]"], ["resnet10t has strides", "7"]),
        (["--data.augmentation", "detr"], ['augmentation "detr"', "shortest"]),
        (["--trainer.accelerator", "abacus"], ["--trainer.accelerator abacus is unknown", "cpu"]),
        (["--trainer.devices", "0"], ["trainer: "]),
        (["--trainer.devices", "many"], ["trainer: `devices`"]),
        (["--resume"], ["run/checkpoints/last.ckpt does not exist"]),
        (["--resume", "other.ckpt"], ["other.ckpt does not exist"]),
    ],
)
def test_train_on_a_wrong_command_line(train_refusal: Callable[..., str], words: list[str], parts: list[str]) -> None:
    message = train_refusal(*words)
    for part in parts:
        assert part in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_train_on_a_gpu_that_is_not_there(train_refusal: Callable[..., str]) -> None:
    assert "--trainer.accelerator gpu: torch finds no such device" in train_refusal("--trainer.accelerator", "gpu")


def test_train_without_the_settings_file(train_refusal: Callable[..., str], tmp_path: Path) -> None:
    message = train_refusal(config="coco_smal.yaml")
    assert "coco_smal.yaml: no such file; presets are " in message
    assert " coco_small.yaml" in message
    assert "no such file" in train_refusal(config=tmp_path / "none.yaml")


def test_train_with_a_slip_in_the_settings_file(train_refusal: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 1\nmodel:\n  num_querys: 5\n")
    assert (
        train_refusal(config=path)
        == f"{path}, line 3: model.num_querys is not a setting; did you mean model.num_queries?"
    )


def test_settings_that_ask_for_code_run_nothing(train_refusal: Callable[..., str], tmp_path: Path) -> None:
    path, made = tmp_path / "mine.yaml", tmp_path / "made"
    path.write_text(f'data:\n  root: !!python/object/apply:os.mkdir ["{made}"]\n')
    assert f"{path}, line 2: not plain YAML" in train_refusal(config=path)
    assert "data.root" not in train_refusal(f'--data.root=!!python/object/apply:os.mkdir ["{made}"]').split(":")[0]
    assert not made.exists()


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], list[str]]] = {
    "not COCO": (lambda content: content.pop("images"), ['(no "images")']),
    "category id": (lambda content: content["annotations"][3].update(category_id=9), ["annotation 4", "category_id 9"]),
    "leaves the root": (lambda content: content["images"][0].update(file_name="../../0.png"), ["out of the data"]),
    "missing image": (lambda content: content["images"][0].update(file_name="no.png"), ["no.png", "without a file"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("split", ["train", "val"])
def test_train_on_broken_annotations(
    train_refusal: Callable[..., str], edit_annotations: Callable[..., Path], split: str, fault: str
) -> None:
    change, parts = FAULTS[fault]
    message = train_refusal("--data.root", edit_annotations(split, change))
    for part in parts:
        assert part in message
    assert f"instances_{split}.json" in message


@pytest.mark.parametrize("fault", FAULTS)
def test_evaluate_on_broken_annotations(
    refusal: Callable[..., str], checkpoint: Path, edit_annotations: Callable[..., Path], tmp_path: Path, fault: str
) -> None:
    change, parts = FAULTS[fault]
    root = edit_annotations("val", change)
    message = refusal("evaluate", "--checkpoint", checkpoint, "--data.root", root, "--output", tmp_path / "out")
    for part in parts:
        assert part in message
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_train_on_annotations_that_are_cut_off(train_refusal: Callable[..., str], own_data: Path) -> None:
    file = own_data / "annotations" / "instances_train.json"
    file.write_text(file.read_text()[:500])
    assert "the file ends in the middle, in line 1" in train_refusal("--data.root", own_data)
    file.unlink()
    assert "has no split train; it has val" in train_refusal("--data.root", own_data)


def test_train_says_all_faults_at_once(train_refusal: Callable[..., str], own_data: Path) -> None:
    for split, entry in (("train", "annotations"), ("val", "images")):
        file = own_data / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        content[entry][0].update(category_id=9, file_name="no.png")
        file.write_text(json.dumps(content))
    (own_data / "train" / "000.png").unlink()
    message = train_refusal("--data.root", own_data)
    for part in ("category_id 9", "000.png", "no.png", "instances_train.json", "instances_val.json", "doctor"):
        assert part in message


def test_train_where_validation_has_other_categories(
    train_refusal: Callable[..., str], edit_annotations: Callable[..., Path]
) -> None:
    root = edit_annotations("val", lambda content: content["categories"][0].update(name="cat"))
    message = train_refusal("--data.root", root)
    assert "has objects of classes that annotations/instances_train.json does not list (cat)" in message


def test_train_on_an_image_that_is_cut_off(train_refusal: Callable[..., str], own_data: Path) -> None:
    image = own_data / "train" / "003.png"
    image.write_bytes(image.read_bytes()[:100])
    assert "image files that are cut off are left out: 1 (003.png)" in train_refusal("--data.root", own_data)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.slow
def test_train_on_an_image_that_is_damaged_after_the_check(
    refusal: Callable[..., str], tiny_file: Path, own_data: Path, tmp_path: Path, num_workers: int
) -> None:
    """Which is found while training, in another process and in its traceback."""
    image = own_data / "train" / "003.png"
    spoil_after_the_check(image)
    words = ("--data.root", own_data, "--data.num_workers", num_workers, "--run_dir", tmp_path / "run")
    assert refusal("train", "--config", tiny_file, *words).startswith(f"{image}: ")


@pytest.mark.slow
def test_train_without_the_backbones_weights(
    train_refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    message = train_refusal("--model.pretrained", "true")
    assert "pretrained weights of resnet10t" in message
    assert "--model.pretrained false" in message


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="may write everywhere")
def test_train_where_nothing_may_be_written(refusal: Callable[..., str], tiny_file: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in refusal("train", "--config", tiny_file, "--run_dir", tmp_path / "run")


def test_train_where_the_run_folder_is_a_file(refusal: Callable[..., str], tiny_file: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    message = refusal("train", "--config", tiny_file, "--run_dir", tmp_path / "run")
    assert message == f"--run_dir {tmp_path / 'run'} is a file; name a folder"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["required: --checkpoint"]),
        (["--checkpoint", "none.ckpt"], ["none.ckpt: no such checkpoint"]),
        (["--checkpoint", "CHECKPOINT", "--split", "test"], ["has no split test; it has train, val"]),
        (["--checkpoint", "CHECKPOINT", "--split", "../val"], ["has no split ../val"]),
        (["--checkpoint", "CHECKPOINT", "--data.root", "nowhere"], ["nowhere: no such data folder"]),
        (["--checkpoint", "CHECKPOINT", "--batch_size", "0"], ["--batch_size is 0; it must be at least 1"]),
        (["--checkpoint", "CHECKPOINT", "--num_workers", "-1"], ["--num_workers is -1; it must be at least 0"]),
        (["--checkpoint", "CHECKPOINT", "--workers", "2"], ["did you mean --num_workers?"]),
        (["--checkpoint", "CHECKPOINT", "--batch_size", "x"], ["argument --batch_size: invalid int value: 'x'"]),
        (["--checkpoint", "CHECKPOINT", "--spilt", "val"], ["arguments: --spilt val; did you mean --split?"]),
    ],
)
def test_evaluate_on_a_wrong_command_line(
    refusal: Callable[..., str], checkpoint: Path, words: list[str], parts: list[str]
) -> None:
    message = refusal("evaluate", *(str(checkpoint) if word == "CHECKPOINT" else word for word in words))
    for part in parts:
        assert part in message


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("what", ["text", "cut off", "pickle", "foreign", "code", "code in a pickle"])
def test_evaluate_what_is_no_checkpoint(
    refusal: Callable[..., str], checkpoint: Path, tmp_path: Path, what: str
) -> None:
    path, made = tmp_path / "some.ckpt", tmp_path / "made"
    if what == "text":
        path.write_text("not weights\n")
    elif what == "cut off":
        path.write_bytes(checkpoint.read_bytes()[:-2000])
    elif what == "pickle":
        path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    elif what == "foreign":
        torch.save({"model": torch.zeros(3)}, path)
    elif what == "code":
        torch.save({"state_dict": Payload(made)}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(made)))
    assert refusal("evaluate", "--checkpoint", path).startswith(f"{path}: not a checkpoint")
    assert not made.exists()


def test_resuming_what_is_no_checkpoint(train_refusal: Callable[..., str], tmp_path: Path) -> None:
    path, made = tmp_path / "some.ckpt", tmp_path / "made"
    torch.save({"state_dict": Payload(made)}, path)
    assert train_refusal("--resume", path).startswith(f"{path}: not a checkpoint")
    assert not made.exists()


def test_evaluate_on_data_with_other_categories(
    refusal: Callable[..., str], checkpoint: Path, edit_annotations: Callable[..., Path]
) -> None:
    root = edit_annotations("val", lambda content: content["categories"][0].update(name="cat"))
    message = refusal("evaluate", "--checkpoint", checkpoint, "--data.root", root)
    assert (
        "has objects of cat, for which the model was not trained; it knows blue thing, red thing, green thing"
        in message
    )


@pytest.mark.parametrize("tool", ["train", "evaluate"])
def test_help_ends_well(run_tool: Callable[..., Any], tool: str) -> None:
    ended = run_tool(tool, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "usage:" in ended.out


def test_tools_are_short() -> None:
    for path in (PROJECT / "tools").glob("*.py"):
        assert len(path.read_text().splitlines()) < (60 if path.stem == "benchmark" else 15), path


def start(name: str, *words: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROJECT / "tools" / f"{name}.py"), *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_as_a_program_from_another_folder(tmp_path: Path) -> None:
    process = start("train", "--config", "coco_small", "--modle.name", "detr", cwd=tmp_path)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (2, "")
    assert err == "error: --modle.name is not a setting; did you mean model.name?; see --help\n"


@pytest.mark.stress
def test_as_a_program_on_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    path.write_bytes(pickle.dumps({"weights": 1}, protocol=4))
    process = start("evaluate", "--checkpoint", path, cwd=tmp_path)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1


@pytest.mark.stress
@pytest.mark.parametrize("num_workers", [0, 1])
def test_as_a_program_on_an_image_that_is_damaged_after_the_check(
    tiny_file: Path, own_data: Path, tmp_path: Path, num_workers: int
) -> None:
    image = own_data / "train" / "003.png"
    spoil_after_the_check(image)
    process = start(
        "train", "--config", tiny_file, "--data.root", own_data, "--data.num_workers", num_workers, cwd=tmp_path
    )
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1, err
    assert err.startswith(f"error: {image}: ")


@pytest.mark.stress
def test_as_a_program_without_the_backbones_weights(tiny_file: Path, tmp_path: Path) -> None:
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    process = start("train", "--config", tiny_file, "--model.pretrained=true", cwd=tmp_path, env=offline)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1, err
    assert "--model.pretrained false" in err


@pytest.mark.stress
def test_two_processes_train_one_model(tiny_file: Path, tmp_path: Path) -> None:
    words = ("--config", tiny_file, "--trainer.devices", 2, "--data.batch_size", 2, "--trainer.max_epochs", 2)
    process = start("train", *words, cwd=tmp_path)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tiny"]
    written = json.loads((tmp_path / "runs/tiny/evaluation/metrics.json").read_text())
    assert len(written) == 12
    content = torch.load(tmp_path / "runs/tiny/checkpoints/last.ckpt", weights_only=True)
    assert content["global_step"] == 4  # two epochs of 8 images, 2 + 2 in a step
    assert out.count("training lite on ") == 1
    assert out.count("effective batch size 4 (2 processes x 2)") == 1
