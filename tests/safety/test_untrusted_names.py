"""Names from others in figures, tables and on the terminal: shown as they are, and never interpreted."""

import csv
import io
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.figure import Figure
from PIL import Image

from detr_lite.text import STEERS
from detr_lite.viz.curves import plot_training_curves
from tests.helpers.payloads import rename_categories

Tool = Callable[..., Any]


HTML = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title>&lt;${7*7}{{7*7}}"]
FORMULAS = ["$\\frac{$", "$x^2$ \\alpha", "_\\input{/etc/hostname}"]


def test_the_formulas_work_where_they_are_allowed() -> None:
    figure = Figure()
    figure.suptitle(FORMULAS[0])
    with pytest.raises(ValueError, match="ParseSyntaxException"):
        figure.savefig(io.BytesIO())


@pytest.mark.stress
@pytest.mark.parametrize("names", [HTML, FORMULAS, ["n" * 1000, "-", "."]], ids=["html", "formulas", "long"])
def test_names_are_shown_unchanged(
    run_tool: Tool, untrusted: Tool, edit_annotations: Tool, words: Tool, names: list[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """In every figure, in JSON, in CSV and on the terminal, none taken for a formula."""
    drawn: list[Figure] = []
    save = Figure.savefig

    def savefig(figure: Figure, *places: Any, **options: Any) -> None:
        drawn.append(figure)
        save(figure, *places, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    path, root = untrusted(rename_categories(names)), edit_annotations("val", rename_categories(names))
    out = tmp_path / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for way in ("predict", "visualize", "evaluate"):
            shutil.rmtree(out, ignore_errors=True)
            extra = ["--data.root", root, "--output", out] if way == "evaluate" else []
            ended = run_tool(*words(way, path), *extra)
            assert ended.code == 0, ended
            if way == "predict":
                found = json.loads((out / "detections.json").read_text())
                assert [category["name"] for category in found["categories"]] == names
                assert {annotation["category_name"] for annotation in found["annotations"]} <= {*names}
    with (out / "per_class.csv").open(newline="") as file:
        assert [row["category"].removeprefix("'") for row in csv.DictReader(file)] == names
    assert all(name in ended.out for name in names)
    (curves,) = (figure for figure in drawn if figure.legends)
    labels = [text.get_text() for text in curves.legends[0].get_texts()]
    for name in names:
        assert sum(label.startswith((f"{name}:  AP50", f"{name[:59]}…")) for label in labels) == 1
    titles = [axes.title for figure in drawn if figure is not curves for axes in figure.axes if axes.images]
    assert any(title.get_text().startswith(tuple(name[:50] for name in names)) for title in titles)
    for text in (*curves.legends[0].get_texts(), *titles):
        assert not text.get_parse_math()
        assert not text.get_usetex()


def test_columns_of_an_untrusted_log_are_shown_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"step,loss,loss_$\\frac{$,lr,lr_$\\frac{$\x1b\xff\n1,2,3,4,5\n2,3,4,5,6\n")
    plot_training_curves(path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


def test_names_are_not_typeset_with_tex(checkpoint: Path, tiny_data: Path) -> None:
    from detr_lite import Detector
    from detr_lite.viz.figures.attention import attention_figure

    image = Image.open(tiny_data / "val" / "000.png")
    explained = Detector.from_checkpoint(checkpoint, "cpu").explain(image)
    with matplotlib.rc_context({"text.usetex": True}):
        figure = attention_figure(image, explained.detections, explained.attention, max_detections=1)
    assert not any(axes.title.get_usetex() for axes in figure.axes if axes.images)


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        *((f"{sign}1+1", f"'{sign}1+1") for sign in "=+-@"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("a=1", "a=1"),
        ('a,"b"', 'a,"b"'),
        ("'=1", "'=1"),
    ],
)
@pytest.mark.slow
def test_a_category_is_no_formula_in_a_table(
    run_tool: Tool, untrusted: Callable[..., Path], edit_annotations: Callable[..., Path], words: Tool, tmp_path: Path,
    name: str, cell: str
) -> None:  # fmt: skip
    names = ["blue thing", name, "green thing"]
    path, root = untrusted(rename_categories(names)), edit_annotations("val", rename_categories(names))
    out = tmp_path / "out"
    assert run_tool(*words("evaluate", path), "--data.root", root, "--output", out).code == 0
    with (out / "per_class.csv").open(newline="", encoding="utf-8") as file:
        assert [row["category"] for row in csv.DictReader(file)] == ["blue thing", cell, "green thing"]


CONTROL = {
    "escape": "a\x1b[2Jb",
    "one-byte escape": "a\x9b2Jb",
    "new line": "a\nerror: b",
    "carriage return": "a\rb",
    "bell": "a\ab",
    "backspace": "a\bb",
    "line separator": "a\u2028b",
    "right to left": "a\u202eb",
}


def has_control_characters(text: str) -> bool:
    return STEERS.search(text.replace("\n", "")) is not None


@pytest.mark.parametrize("what", [*CONTROL, "lone surrogate", "very long"])
@pytest.mark.slow
def test_a_category_that_cannot_be_printed_is_refused(
    refusal: Callable[..., str], untrusted: Callable[..., Path], edit_annotations: Callable[..., Path], words: Tool,
    tiny_file: Path, what: str
) -> None:  # fmt: skip
    others = {"lone surrogate": "a\ud800", "very long": "a" * 100_000}
    names = ["blue thing", {**CONTROL, **others}[what], "green thing"]
    reason = "is longer than 1,000 characters" if what == "very long" else "contains control characters"
    root = edit_annotations("train", rename_categories(names))
    refused = [
        refusal("train", "--config", tiny_file, "--data.root", root),
        refusal(*words("predict", untrusted(rename_categories(names)))),
    ]
    for message in refused:
        assert "category 7 has the name " in message
        assert f", which {reason}; correct it" in message
        assert not has_control_characters(message)
        assert len(message) < 700


@pytest.mark.stress
@pytest.mark.parametrize("name", [*CONTROL.values(), os.fsdecode(b"a\xff"), "<b>$x$", "日本"])
def test_names_of_files_are_printed_without_control_characters(
    run_tool: Tool, checkpoint: Path, tiny_data: Path, tmp_path: Path, name: str
) -> None:
    """Of readable and unreadable images, of a damaged checkpoint and of settings."""
    photos = tmp_path / "photos" / name
    photos.mkdir(parents=True)
    shutil.copy(tiny_data / "val" / "000.png", photos / f"{name}.png")
    (photos / f"{name} damaged.png").write_text("no image")
    (tmp_path / f"{name}.ckpt").write_text("no checkpoint")
    (tmp_path / f"{name}.yaml").write_text(json.dumps({"a\x1b[2Jb": 1}))
    for tool in ("predict", "visualize"):
        words = [tool, "--checkpoint", checkpoint, "--threshold", 0.999, "--source", tmp_path / "photos"]
        ended = run_tool(*words, "--output", tmp_path / tool)
        assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended
        assert "skipped " in ended.out
        assert not has_control_characters(ended.out + ended.err)
        assert {file.name for file in (tmp_path / tool).rglob("*.png")} == {f"{name}.png"}
    found = json.loads((tmp_path / "predict" / "detections.json").read_text())
    assert [image["file_name"] for image in found["images"]] == [f"{name}/{name}.png"]
    for words in (
        ["evaluate", "--checkpoint", tmp_path / f"{name}.ckpt"],
        ["train", "--config", tmp_path / f"{name}.yaml"],
    ):
        ended = run_tool(*words)
        assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended
        assert not has_control_characters(ended.out + ended.err)
