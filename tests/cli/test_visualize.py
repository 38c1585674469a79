"""`visualize`: a figure for each image, of the chosen layer and heads."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detr_lite.cli import figures as module
from detr_lite.detector import Detector
from detr_lite.viz.figures.attention import attention_figure
from detr_lite.viz.figures.query_boxes import query_boxes_figure
from detr_lite.viz.guesses import GUESSES

pytestmark = pytest.mark.slow

Tool = Callable[..., Any]


@pytest.fixture(scope="module")
def checkpoint(finished_run: Path) -> Path:
    """Of one decoder layer with two heads."""
    return finished_run / "checkpoints" / "best.ckpt"


@pytest.fixture
def photos(tiny_data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    shutil.copy(tiny_data / "val" / "000.png", folder / "a.png")
    shutil.copy(tiny_data / "val" / "003.png", folder / "sub" / "a.png")
    with Image.open(tiny_data / "val" / "004.png") as image:
        image.convert("L").save(folder / "a.jpg")
    return folder


@pytest.fixture
def visualize(run_tool: Tool, checkpoint: Path, tmp_path: Path) -> Tool:
    return lambda *words: run_tool("visualize", "--checkpoint", checkpoint, "--output", tmp_path / "out", *words)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is handed to `attention_figure`, and its figure."""
    calls: list[Any] = []

    def record(image: Any, found: Any, maps: Any, **options: Any) -> Any:
        calls.append((found, options, attention_figure(image, found, maps, **options)))
        return calls[-1][-1]

    monkeypatch.setattr(module, "attention_figure", record)
    return calls


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def titles_of(figure: Any) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.images]


@pytest.mark.stress
def test_a_figure_for_each_image(
    visualize: Tool, figures: list[Any], checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    ended = visualize("--source", photos, "--threshold", 0.05)
    assert (ended.code, ended.err) == (0, ""), ended
    assert files_in(tmp_path / "out") == ["a.jpg.png", "a.png", "sub/a.png"]
    assert "wrote 3 figures to" in ended.out
    detector = Detector.from_checkpoint(checkpoint, "cpu")
    for name, (found, _, figure) in zip(("a.jpg", "a.png", "sub/a.png"), figures, strict=True):
        expected = detector(photos / name).above(0.05)
        assert found.queries.tolist() == expected.queries.tolist()
        titles = titles_of(figure)
        assert len(titles) == 4 * len(expected), "every detection: image, mean and both heads"
        rows = zip(expected.labels.tolist(), expected.scores.tolist(), expected.queries.tolist(), strict=True)
        assert titles[::4] == [f"{found.class_names[label]} {score:.2f}\nquery {query}" for label, score, query in rows]
    for name in files_in(tmp_path / "out"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 250
            assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.stress
def test_highest_scoring_predictions_where_nothing_reaches_the_threshold(
    visualize: Tool, figures: list[Any], photos: Path
) -> None:
    ended = visualize("--source", photos, "--threshold", 1)
    assert (ended.code, ended.err) == (0, "")
    assert f"no score reaches 1 in 3 of 3 images ({photos}/a.jpg, {photos}/a.png, {photos}/sub/a.png)" in ended.out
    assert "their best guesses are shown, dashed" in ended.out
    for _, _, figure in figures:
        assert figure.get_suptitle().endswith("\nbest guesses, below the threshold 1.00")
        assert len(titles_of(figure)) == 4 * GUESSES


@pytest.mark.parametrize(
    ("words", "panels"),
    [
        (["--heads", "mean"], ["mean of heads"]),
        (["--heads", "1"], ["head 1"]),
        (["--heads", "1,0", "--layer", "0"], ["head 1", "head 0"]),
        (["--heads", "1, 1"], ["head 1"]),
        (["--layer", "last"], ["mean of heads", "head 0", "head 1"]),
    ],
)
def test_the_chosen_layer_and_heads(
    visualize: Tool, figures: list[Any], photos: Path, words: list[str], panels: list[str]
) -> None:
    ended = visualize("--source", photos / "a.png", "--threshold", 1, *words)
    assert ended.code == 0, ended
    ((_, _, figure),) = figures
    assert [title.split("\n")[0] for title in titles_of(figure)][1 : 1 + len(panels)] == panels
    assert len(titles_of(figure)) == GUESSES * (1 + len(panels))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--layer", "3"], "there is no decoder layer 3; this model has 0"),
        (["--layer", "-1"], "--layer is '-1'; it must be \"last\" or a number"),
        (["--layer", "first"], "--layer is 'first'; it must be \"last\" or a number, counted from 0"),
        (["--heads", "0,2"], "there is no head 2; this model has 0, 1"),
        (["--heads", "some"], '--heads is \'some\'; it must be "all", "mean" or numbers such as 0,3'),
        (["--heads", ""], "--heads is ''"),
        (["--heads", "0,"], "--heads is '0,'"),
        (["--threshold", "2"], "--threshold is 2.0; it must be from 0 to 1"),
        (["--device", "cuda:99"], 'device "cuda:99" cannot be used here'),
        (["--figure", "heads"], "--figure is 'heads'; it must be one of queries, layers, points, query_boxes"),
        (["--points", "3,4"], "--points does not belong to --figure queries; give it with --figure points"),
        (["--figure", "query_boxes", "--heads", "0"], "give it with --figure queries or layers or points"),
        (["--figure", "layers", "--layer", "0"], "--layer does not belong to --figure layers"),
        (["--figure", "points", "--points", "3;4"], "--points '3;4' is not a point; give x,y in pixels"),
        (["--figure", "points", "--points", "30,400"], "a.jpg: point 30,400 lies outside the image of"),
        (["--figure", "layers", "--detection", "-1"], "--detection is -1; it must be at least 0"),
        (
            ["--figure", "layers", "--detection", "99", "--threshold", "1"],
            "there is no --detection 99: there are 5 best guesses",
        ),
        (["--source", "nowhere"], "--source nowhere: no such file or folder"),
        (["--checkpoint", "nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
    ],
)
def test_a_wrong_command_line(
    refusal: Callable[..., str], checkpoint: Path, photos: Path, tmp_path: Path, words: list[str], part: str
) -> None:
    all_words = ("--checkpoint", checkpoint, "--output", tmp_path / "out", "--source", photos, *words)
    assert part in refusal("visualize", *all_words)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_is_named_and_the_others_are_done(visualize: Tool, photos: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_text("no image")
    ended = visualize("--source", photos)
    assert ended.code == 2
    assert f"{photos}/b.png: not readable as an image" in ended.out
    assert ended.err.startswith(f"error: 1 of 4 files could not be read as images ({photos}/b.png); the results of")
    assert files_in(tmp_path / "out") == ["a.jpg.png", "a.png", "sub/a.png"]


@pytest.mark.stress
def test_a_second_time_into_the_same_folder(
    visualize: Tool, refusal: Callable[..., str], checkpoint: Path, photos: Path
) -> None:
    words = ("--source", photos, "--output", photos / "looked")
    assert visualize(*words).code == 0
    before = files_in(photos)
    assert "give --overwrite" in refusal("visualize", "--checkpoint", checkpoint, *words)
    assert visualize(*words, "--overwrite").code == 0
    assert files_in(photos) == before


@pytest.mark.stress
def test_many_detections_make_a_figure_that_can_be_saved(
    visualize: Tool, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 600)
    assert visualize("--source", photos / "a.png", "--threshold", 0).code == 0
    with Image.open(tmp_path / "out" / "a.png") as picture:
        assert picture.height <= 601


@pytest.mark.parametrize(
    ("words", "panels"),
    [
        (["--figure", "layers"], 2 * 4),
        (["--figure", "layers", "--heads", "mean", "--detection", "1"], 2 * 2),
        (["--figure", "points", "--points", "10,10", "20.5,30"], 2 * 2),
        (["--figure", "points", "--heads", "0", "--points", "10,10"], 2),
        (["--figure", "points"], None),
    ],
)
def test_other_figures_of_each_image(
    visualize: Tool, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], panels: int | None
) -> None:
    drawn: list[Any] = []
    save = module.save_figure
    monkeypatch.setattr(module, "save_figure", lambda figure, path: (drawn.append(figure), save(figure, path)))
    ended = visualize("--source", photos, "--threshold", 0, *words)
    assert (ended.code, ended.err) == (0, ""), ended
    assert files_in(tmp_path / "out") == ["a.jpg.png", "a.png", "sub/a.png"]
    assert len(drawn) == 3
    for figure in drawn:
        assert panels is None or len(titles_of(figure)) == panels


def test_the_boxes_of_each_layer_are_the_models_own(checkpoint: Path, photos: Path) -> None:
    explained = Detector.from_checkpoint(checkpoint, "cpu").explain(photos / "a.png")
    found = explained.detections
    with Image.open(photos / "a.png") as image:
        width, height = image.size
    x, y, w, h = explained.boxes_cxcywh[-1, 0, found.queries].unbind(-1)
    x0, x1 = (edge.clamp(0, 1) * width for edge in (x - w / 2, x + w / 2))
    y0, y1 = (edge.clamp(0, 1) * height for edge in (y - h / 2, y + h / 2))
    np.testing.assert_allclose(found.boxes_xyxy, np.stack([x0, y0, x1, y1], axis=-1), atol=1e-3)


def test_query_boxes_are_one_figure_of_all_images(
    visualize: Tool, checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        module, "query_boxes_figure", lambda boxes, note: drawn.append(boxes) or query_boxes_figure(boxes, note=note)
    )
    (photos / "b.png").write_text("no image")
    ended = visualize("--source", photos, "--figure", "query_boxes", "--threshold", 0.3)
    assert ended.code == 2
    assert files_in(tmp_path / "out") == ["query_boxes.png"]
    assert "wrote 1 figure to" in ended.out
    (boxes,) = drawn
    assert boxes.images == 3
    detector = Detector.from_checkpoint(checkpoint, "cpu")
    names = ("a.jpg", "a.png", "sub/a.png")
    explained = [detector.explain(photos / name) for name in names]
    for number, one in enumerate(explained):
        np.testing.assert_allclose(boxes.centers()[number], one.boxes_cxcywh[-1, 0, :, :2], atol=1e-5)
    found = [set(one.detections.above(0.3).queries.tolist()) for one in explained]
    assert boxes.counts().tolist() == [sum(query in each for each in found) for query in range(6)]


def test_help_ends_well(run_tool: Tool) -> None:
    ended = run_tool("visualize", "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "--layer" in ended.out
