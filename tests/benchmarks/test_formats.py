"""One dataset in every format: what is read is the same, and the table says which command works on which format."""

import json
from pathlib import Path

import pytest

from benchmarks import formats
from benchmarks.dataset_formats import COUNTS, SIZE, WRITERS, draw
from detr_lite.data.reading import read_dataset
from detr_lite.structures import DetrLiteError
from tests.helpers.case_data import training_objects

DRAWN = draw()


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_read_as_what_was_drawn(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / "data", DRAWN)
    for split, read in read_dataset(tmp_path / "data").items():
        assert read.format.startswith(name)
        assert read.report.findings == []
        assert read.images.sizes_wh.tolist() == [list(SIZE)] * COUNTS[split]
        assert [record.path.name for record in read.images] == [image.file_name for image in DRAWN[split]]
        assert training_objects(read) == [
            (index, each.name, list(map(float, each.corners.values())))
            for index, image in enumerate(DRAWN[split])
            for each in image.objects
        ]


def test_the_table_says_what_works_and_whether_the_ap_is_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(tool: str, *words: object) -> str:
        if tool == "train":
            checkpoint = Path(str(words[words.index("--run_dir") + 1])) / "checkpoints" / "best.ckpt"
            checkpoint.parent.mkdir(parents=True)
            checkpoint.touch()
        if tool == "evaluate":
            assert words[1] == tmp_path / "runs" / "coco" / "checkpoints" / "best.ckpt"
            results = Path(str(words[words.index("--output") + 1]))
            results.mkdir(parents=True)
            (results / "metrics.json").write_text(json.dumps({"AP": 0.25 if results.name == "yolo" else 0.5}))
        return "the page cannot be written" if tool == "doctor" and "cvat" in str(words[0]) else "ok"

    monkeypatch.setattr(formats, "_run", run)
    rows = formats.formats_table(tmp_path).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in WRITERS]
    assert rows[0] == "| COCO | ok | ok | 0.500000, identical | ok |"
    assert rows[1] == "| YOLO | ok | ok | 0.250000, not 0.500000 | ok |"
    assert rows[3] == "| CVAT | ok | ok | 0.500000, identical | the page cannot be written |"


def test_without_a_model_there_is_no_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(formats, "_run", lambda *_: "no space left")
    with pytest.raises(DetrLiteError, match="training on COCO ended with: no space left"):
        formats.formats_table(tmp_path)
