"""`detr-lite prepare-data`: what each command writes and says, and that no source changes."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from detr_lite.data.reading import Reading, read_dataset, read_stored

Run = Callable[..., Any]
Refusal = Callable[..., str]


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def state_of(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Size, time and content of every file."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def source(tiny_data: Path) -> Iterator[Path]:
    """`tiny_data`, which must not change."""
    before = state_of(tiny_data)
    yield tiny_data
    assert state_of(tiny_data) == before


@pytest.fixture
def prepare(run_tool: Run) -> Callable[..., str]:
    """Run `tools/prepare_data.py`; gives what it printed, having seen that it ended well."""

    def run(*words: object) -> str:
        ended = run_tool("prepare_data", *words)
        assert (ended.code, ended.err) == (0, ""), ended
        return str(ended.out)

    return run


def objects_of(root: Path) -> dict[str, Counter[str]]:
    """Objects of each class in each split."""
    return {
        name: Counter(split.categories[label].name for label in split.images.labels.tolist())
        for name, split in read_stored(root, Reading()).items()
    }


def images_of(root: Path) -> dict[str, list[str]]:
    return {
        name: [Path(path).name for path in split.images.paths] for name, split in read_stored(root, Reading()).items()
    }


def test_convert_to_coco(prepare: Callable[..., str], source: Path, tmp_path: Path) -> None:
    out = prepare("convert", source, tmp_path / "coco", "--to", "coco")
    assert objects_of(tmp_path / "coco") == objects_of(source)
    assert images_of(tmp_path / "coco") == images_of(source)
    assert out.splitlines()[-1] == (
        f"wrote {tmp_path}/coco (COCO): 13 images (13 hard links to the source's files), 15 objects"
    )
    assert re.search(r"^images +8 +5$", out, re.MULTILINE)
    assert "prepare_data.py convert" in (tmp_path / "coco/prepared.txt").read_text()


def test_convert_to_yolo_with_copies(prepare: Callable[..., str], source: Path, tmp_path: Path) -> None:
    out = prepare("convert", source, tmp_path / "yolo", "--to", "yolo", "--files", "copy")
    assert "13 images (13 copies)" in out
    assert "train: crowd regions are left out: 1" in out
    assert entries(tmp_path / "yolo") == ["data.yaml", "images", "labels", "prepared.txt"]
    assert (tmp_path / "yolo/labels/train/001.txt").read_text() == ""


def test_convert_where_something_is(
    refusal: Refusal, prepare: Callable[..., str], source: Path, tmp_path: Path
) -> None:
    words = ("convert", source, tmp_path / "out", "--to", "coco")
    prepare(*words)
    assert "is there already; name a new folder, or replace it with --overwrite" in refusal("prepare_data", *words)
    prepare(*words[:-1], "yolo", "--overwrite")
    assert not (tmp_path / "out/annotations").exists()
    assert "overlap" in refusal("prepare_data", "convert", source, source / "coco", "--to", "coco")


def test_split(prepare: Callable[..., str], source: Path, tmp_path: Path) -> None:
    out = prepare("split", source, tmp_path / "out", "--val", "0.3", "--test", "0.2", "--seed", "3")
    parts, before = images_of(tmp_path / "out"), images_of(source)
    # Both splits of the source have 000.png to 004.png, so that these get the split's name.
    expected = [f"{name}_{file}" if file < "005" else file for name, files in before.items() for file in files]
    assert sorted(file for files in parts.values() for file in files) == sorted(expected)
    wanted = {"train": 6.5, "val": 3.9, "test": 2.6}
    assert max(abs(len(parts[name]) - count) for name, count in wanted.items()) < 1.5
    assert sum(objects_of(tmp_path / "out").values(), Counter()) == sum(objects_of(source).values(), Counter())
    assert "frames of" not in out
    prepare("split", source, tmp_path / "again", "--val", "0.3", "--test", "0.2", "--seed", "3", "--to", "coco")
    assert images_of(tmp_path / "again") == parts


@pytest.fixture
def films(own_data: Path) -> Path:
    """Frames of four films, in train alone."""
    file = own_data / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    for number, image in enumerate(content["images"]):
        name = f"film{'abcd'[number // 2]}_{number:03}.png"
        (own_data / "train" / image["file_name"]).rename(own_data / "train" / name)
        image["file_name"] = name
    file.write_text(json.dumps(content))
    (own_data / "annotations/instances_val.json").unlink()
    return own_data


@pytest.mark.parametrize("words", [("--by", "prefix"), ("--group", "film(.)")])
def test_split_by_groups(prepare: Callable[..., str], films: Path, tmp_path: Path, words: tuple[str, str]) -> None:
    out = prepare("split", films, tmp_path / "out", "--val", "0.25", *words)
    parts = images_of(tmp_path / "out")
    letters = {name: {file[4] for file in files} for name, files in parts.items()}
    assert not letters["train"] & letters["val"]
    assert (len(parts["train"]), len(parts["val"])) == (6, 2)
    assert "train: 3 of 4 groups (" in out
    assert "val: 1 of 4 groups (" in out


def test_split_says_that_names_look_like_films(
    prepare: Callable[..., str], edit_annotations: Run, own_data: Path, tmp_path: Path
) -> None:
    def rename(content: dict[str, Any]) -> None:
        for number, image in enumerate(content["images"]):
            name = f"{'a' if number < 4 else 'b'}_{image['file_name']}"
            (own_data / "train" / image["file_name"]).rename(own_data / "train" / name)
            image["file_name"] = name

    edit_annotations("train", rename)
    (own_data / "annotations/instances_val.json").unlink()
    out = prepare("split", own_data, tmp_path / "out")
    assert "the names look like numbered frames of 2 videos (a_, b_): --by prefix keeps each video together" in out


def test_split_leaves_out_what_is_not_labeled(prepare: Callable[..., str], own_data: Path, tmp_path: Path) -> None:
    content = json.loads((own_data / "annotations/instances_val.json").read_text())
    content["annotations"] = []
    (own_data / "annotations/instances_test.json").write_text(json.dumps(content))
    (own_data / "val").rename(own_data / "test")
    (own_data / "annotations/instances_val.json").unlink()
    out = prepare("split", own_data, tmp_path / "out")
    assert "warning: test: has no objects, so that its images are left out" in out
    assert sorted(sum(map(Counter, images_of(tmp_path / "out").values()), Counter())) == images_of(own_data)["train"]


def test_copies_of_a_file_stay_in_one_part(prepare: Callable[..., str], own_data: Path, tmp_path: Path) -> None:
    """Where the training images were given as validation images too."""
    shutil.rmtree(own_data / "val")
    shutil.copytree(own_data / "train", own_data / "val")
    shutil.copy(own_data / "annotations/instances_train.json", own_data / "annotations/instances_val.json")
    out = prepare("split", own_data, tmp_path / "out", "--val", "0.4")
    assert "copies of the same file stay together: 16 (train_000.png, val_000.png, train_001.png and 13 more)" in out
    parts = images_of(tmp_path / "out")
    train, val = ({name.split("_")[1] for name in parts[part]} for part in ("train", "val"))
    assert not train & val
    assert len(train | val) == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--val", "1.2"], "--val is 1.2; give a share of the images, from 0 to below 1"),
        (["--val", "nan"], "--val is nan; give a share"),
        (["--val", "0"], "--val 0 --test 0 leave no two splits"),
        (["--val", "0.7", "--test", "0.4"], "leave no two splits; together they must be between 0 and 1"),
        (["--group", "("], "--group '(' is not a regular expression"),
        (["--group", "png"], "1 group of images cannot make 2 parts"),
        (["--by", "film"], "argument --by: invalid choice: 'film'"),
    ],
)
def test_split_on_a_wrong_command_line(
    refusal: Refusal, source: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    assert message in refusal("prepare_data", "split", source, tmp_path / "out", *words)
    assert entries(tmp_path) == []


@pytest.mark.slow
def test_subset(prepare: Callable[..., str], source: Path, tmp_path: Path) -> None:
    prepare("subset", source, tmp_path / "three", "--images", 3)
    images = images_of(tmp_path / "three")
    assert len(images["train"]) == 3
    assert images["val"] == images_of(source)["val"]
    prepare("subset", source, tmp_path / "reds", "--classes", "red thing")
    objects = {name: counts["red thing"] for name, counts in objects_of(source).items()}
    assert objects_of(tmp_path / "reds") == {name: Counter({"red thing": n}) for name, n in objects.items()}
    assert read_dataset(tmp_path / "reds")["train"].images.counts.min() > 0
    prepare("subset", source, tmp_path / "all", "--classes", "red thing", "--keep_empty")
    assert images_of(tmp_path / "all") == images_of(source)
    prepare("subset", source, tmp_path / "even", "--images", 3, "--other_images", 2, "--balanced")
    assert {name: len(each) for name, each in images_of(tmp_path / "even").items()} == {"train": 3, "val": 2}
    assert {*objects_of(tmp_path / "even")["train"]} == {"red thing", "blue thing", "green thing"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a subset of what? give --images N, --classes NAME ..., or both"),
        (["--images", "9"], "--images is 9; "),
        (["--images", "0"], "give a number from 1 to that"),
        (["--classes", "red thingy"], "the dataset has no class red thingy; did you mean red thing?"),
        (["--keep_empty", "--images", "2"], "--keep_empty needs --classes"),
        (["--balanced", "--classes", "red thing"], "--balanced needs a number of images"),
    ],
)
def test_subset_on_a_wrong_command_line(
    refusal: Refusal, source: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    assert message in refusal("prepare_data", "subset", source, tmp_path / "out", *words)


def test_merge(prepare: Callable[..., str], source: Path, own_data: Path, tmp_path: Path) -> None:
    prepare("rename", own_data, tmp_path / "renamed", "--classes", "green thing=leaf", "red thing=berry")
    out = prepare("merge", source, tmp_path / "renamed", tmp_path / "out")
    assert "warning: tiny: none of its 13 images has an object of berry, leaf. Where such objects" in out
    assert "warning: renamed: none of its 13 images has an object of green thing, red thing." in out
    expected = {name: objects_of(source)[name] + counts for name, counts in objects_of(tmp_path / "renamed").items()}
    assert objects_of(tmp_path / "out") == expected
    assert [len(each) for each in images_of(tmp_path / "out").values()] == [16, 10]
    assert {"tiny_000.png", "renamed_000.png"} <= {*images_of(tmp_path / "out")["train"]}


def test_merge_warns_of_images_in_two_splits(prepare: Callable[..., str], own_data: Path, tmp_path: Path) -> None:
    """The second dataset has the first one's validation images for training."""
    other = tmp_path / "other"
    (other / "annotations").mkdir(parents=True)
    shutil.copytree(own_data / "val", other / "train")
    shutil.copy(own_data / "annotations/instances_val.json", other / "annotations/instances_train.json")
    for image in (own_data / "train").iterdir():  # which are alike in both splits
        image.write_bytes(image.read_bytes() + b"x")
    out = prepare("merge", own_data, other, tmp_path / "out")
    assert "warning: files that stand in two splits: 5 (train/other_000.png = val/000.png, " in out


def test_merge_warns_of_nothing_where_all_is_labeled(
    prepare: Callable[..., str], source: Path, own_data: Path, tmp_path: Path
) -> None:
    (own_data / "annotations/instances_val.json").unlink()
    out = prepare("merge", source, own_data, tmp_path / "out")
    assert "has an object of" not in out
    assert "own_data: has no images for val" in out
    assert [len(each) for each in images_of(tmp_path / "out").values()] == [16, 5]


def test_merge_on_a_wrong_command_line(refusal: Refusal, source: Path, tmp_path: Path) -> None:
    assert "two or more different datasets" in refusal("prepare_data", "merge", source, tmp_path / "out")
    assert "two or more different datasets" in refusal("prepare_data", "merge", source, source, tmp_path / "out")
    assert "required: " in refusal("prepare_data", "merge", source)


def test_rename(prepare: Callable[..., str], source: Path, tmp_path: Path) -> None:
    words = ("--classes", "red thing=colored", "blue thing=colored", "--drop", "green thing")
    out = prepare("rename", source, tmp_path / "out", *words)
    before = objects_of(source)
    expected = {name: Counter({"colored": n["red thing"] + n["blue thing"]}) for name, n in before.items()}
    assert objects_of(tmp_path / "out") == expected
    assert images_of(tmp_path / "out") == images_of(source)
    dropped = before["train"]["green thing"]
    assert f"train: {dropped} objects of dropped classes are left out; from now on they are background" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --classes OLD=NEW ..., --drop NAME ..., or both"),
        (["--classes", "red thing"], "--classes red thing: give OLD=NEW, such as lorry=truck"),
        (["--classes", "red thing="], "give OLD=NEW"),
        (["--classes", "read thing=x"], "the dataset has no class read thing; did you mean red thing?"),
        (["--drop", "x"], "the dataset has no class x; there are "),
        (["--drop", "red thing", "--classes", "red thing=x"], "red thing: both renamed and dropped"),
        (["--drop", "red thing", "green thing", "blue thing"], "--drop names every class; leave one"),
    ],
)
def test_rename_on_a_wrong_command_line(
    refusal: Refusal, source: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    assert message in refusal("prepare_data", "rename", source, tmp_path / "out", *words)
    assert entries(tmp_path) == []


def test_stats(prepare: Callable[..., str], source: Path, tmp_path: Path) -> None:
    out = prepare("stats", source, "--json", tmp_path / "stats.json")
    content = json.loads((tmp_path / "stats.json").read_text())
    assert content["train"]["statistics"]["images"] == 8
    assert content["val"]["statistics"]["objects"] == sum(objects_of(source)["val"].values())
    assert content["train"]["report"]["totals"]["image"] == 8
    assert "red thing" in out
    assert out.endswith(f"no faults were found\nwrote {tmp_path}/stats.json\n")


@pytest.fixture
def faulty(edit_annotations: Run) -> Path:
    """A box that is turned round, and one that cannot be read."""

    def spoil(content: dict[str, Any]) -> None:
        x, y, w, h = content["annotations"][0]["bbox"]
        content["annotations"][0]["bbox"] = [x + w, y + h, -w, -h]
        content["annotations"][1]["bbox"] = "none"

    return edit_annotations("train", spoil)  # type: ignore[no-any-return]


def test_stats_tells_faults(prepare: Callable[..., str], faulty: Path, tmp_path: Path) -> None:
    out = prepare("stats", faulty, "--json", tmp_path / "stats.json")
    assert "no faults" not in out
    assert "annotations/instances_train.json: " in out
    report = json.loads((tmp_path / "stats.json").read_text())["train"]["report"]
    assert {finding["action"] for finding in report["findings"]} >= {"repaired", "skipped"}


def test_faults_are_repaired_skipped_or_refused(
    prepare: Callable[..., str], refusal: Refusal, faulty: Path, source: Path, tmp_path: Path
) -> None:
    words = ("convert", faulty, tmp_path / "out", "--to", "coco")
    prepare(*words, "--data.on_fault", "repair")
    assert objects_of(tmp_path / "out")["train"].total() == objects_of(source)["train"].total() - 1
    prepare(*words, "--overwrite", "--on_fault", "skip")
    assert objects_of(tmp_path / "out")["train"].total() == objects_of(source)["train"].total() - 2
    message = refusal("prepare_data", *words, "--overwrite", "--data.on_fault", "refuse")
    assert "annotations/instances_train.json: " in message
    assert objects_of(tmp_path / "out")["train"].total() == objects_of(source)["train"].total() - 2


def test_a_dataset_that_is_not_there(refusal: Refusal, tmp_path: Path) -> None:
    message = refusal("prepare_data", "convert", tmp_path / "none", tmp_path / "out", "--to", "coco")
    assert str(tmp_path / "none") in message


@pytest.mark.parametrize("words", [[], ["split", "--help"], ["--help"], ["donwload"], ["download", "lvis", "x"]])
def test_words_of_the_command(run_tool: Run, words: list[str]) -> None:
    ended = run_tool("prepare_data", *words)
    if "--help" in words:
        assert (ended.code, ended.err) == (0, "")
        assert "usage: python " in ended.out
        assert "SOURCE OUTPUT [options]" in ended.out or "COMMAND" in ended.out
    else:
        assert ended.code == 2
        assert len(ended.err.splitlines()) == 1


def test_download_says_in_one_line_that_it_is_offline(
    refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    words = ("download", "coco", tmp_path / "coco", "--splits", "val", "--server", "http://127.0.0.1:9/")
    assert "127.0.0.1 cannot be reached" in refusal("prepare_data", *words)
    assert not (tmp_path / "coco").exists()
