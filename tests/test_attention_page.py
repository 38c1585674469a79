"""docs/attention.md and its Chinese translation: snippets print what the page says, and the figures can be drawn."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawing.snippets import Snippet, read_snippets, run_snippet
from drawing.style import BLUE, white_to_blue
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from detr_lite.build import build_model, build_resize
from detr_lite.config import read_config
from detr_lite.data.transforms import MEAN, STD
from detr_lite.structures import Category
from detr_lite.weights.checkpoint import Description, write_checkpoint

DOCS = Path(__file__).resolve().parents[1] / "docs"
ENGLISH, CHINESE = DOCS / "attention.md", DOCS / "attention.zh.md"
SHAPES = ("disc", "ring", "triangle", "square", "pentagon", "star", "cross", "heart")
CHECKPOINT, SCENE = "runs/coco_small/checkpoints/best.ckpt", "datasets/coco_small/val/000000005324.jpg"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def differs(printed: str, page: str, is_trained: bool = False) -> str | None:
    """How a snippet's output differs from the page, or None.

    Integers must be equal, decimals within one unit of the last digit shown. Of a trained model's output only the
    words are compared, without numbers and class names.
    """
    if is_trained:
        printed, page = (re.sub(r"\b(" + "|".join(SHAPES) + r")\b", "SHAPE", text) for text in (printed, page))
    words, expected_words = (NUMBER.sub("#", text).split() for text in (printed, page))
    if words != expected_words:
        return f"{words} is not {expected_words}"
    if is_trained:
        return None
    for number, expected in zip(NUMBER.findall(printed), NUMBER.findall(page), strict=True):
        decimals = len(expected.partition(".")[2])
        tolerance = 1.01 * 10.0**-decimals if decimals else 0
        if abs(float(number) - float(expected)) > tolerance:
            return f"{number} is not {expected}"
    return None


def tables(page: Path) -> list[list[str]]:
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of `make train` that the page uses: a checkpoint of random weights, and a scene."""
    folder = tmp_path_factory.mktemp("project")
    config = read_config(["--config", "coco_small.yaml", "--model.num_queries", "50"]).config
    torch.manual_seed(0)
    model = build_model(config.model, len(SHAPES))
    categories = tuple(Category(id, name) for id, name in enumerate(SHAPES, start=1))
    for path in (CHECKPOINT, SCENE):
        (folder / path).parent.mkdir(parents=True)
    write_checkpoint(folder / CHECKPOINT, model, Description(config, categories, build_resize(config.data), MEAN, STD))
    scene = Image.new("RGB", (256, 254), (40, 150, 190))
    ImageDraw.Draw(scene).ellipse((150, 30, 230, 110), fill=(230, 170, 60))
    scene.save(folder / SCENE)
    return folder


@pytest.fixture(scope="module")
def lesson() -> dict[str, Any]:
    """The variables of the page's snippets before the detector."""
    from draw_attention import run_lesson

    return run_lesson(ENGLISH)


def test_snippets_print_what_the_page_shows(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    namespace: dict[str, Any] = {}
    wrong = []
    snippets = read_snippets(ENGLISH)
    for snippet in snippets:
        difference = differs(run_snippet(snippet, ENGLISH, namespace), snippet.printed, snippet.is_trained)
        if difference:
            wrong.append(f"line {snippet.line}: {difference}")
    assert wrong == []
    assert len(snippets) >= 30
    assert sum(snippet.is_trained for snippet in snippets) == 2


@pytest.mark.parametrize(
    ("printed", "page", "is_trained"),
    [
        ("0.123", "0.125", False),
        ("(4, 5)", "(4, 4)", False),
        ("weights (4, 5)", "output (4, 5)", False),
        ("1.00 2.00", "1.00", False),
        ("", "1", False),
        ("star 0.88, query 0", "star 0.88, row 0", True),
        ("layer 0: 85%\nlayer 1: 84%", "layer 0: 85%", True),
    ],
)
def test_different_output_is_reported(printed: str, page: str, is_trained: bool) -> None:
    assert differs(printed, page, is_trained)


@pytest.mark.parametrize(
    ("printed", "page", "is_trained"),
    [("0.124 -0.5", "0.125  -0.5", False), ("(4, 5)\n", "(4, 5)", False), ("ring 0.13, 5%", "star 0.88, 73%", True)],
)
def test_rounding_whitespace_and_other_weights_are_accepted(printed: str, page: str, is_trained: bool) -> None:
    assert differs(printed, page, is_trained) is None


def test_snippets_are_read_with_their_output(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "a\n\n```python\nb = 1\n```\n\n```sh\nls\n```\n\n```python\nprint(b + 1)\n```\n\n```text trained\n2\n```\n"
    )
    assert read_snippets(page) == [Snippet("b = 1\n", "", False, 4), Snippet("print(b + 1)\n", "2\n", True, 12)]


def test_an_error_names_the_line_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\na = 1\nassert a == 2\n```\n")
    with pytest.raises(AssertionError) as error:
        run_snippet(read_snippets(page)[0], page, {})
    assert error.traceback[-1].lineno + 1 == 5


def test_both_languages_have_the_same_snippets_figures_commands_and_numbers() -> None:
    def parts(page: Path) -> dict[str, list[Any]]:
        text = page.read_text(encoding="utf-8")
        return {
            "snippets": [(snippet.code, snippet.printed, snippet.is_trained) for snippet in read_snippets(page)],
            "figures": re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text),
            "commands": re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL),
            "sections": [
                len(level) for level in re.findall(r"^(#+) ", re.sub(r"(?s)```.*?```", "", text), re.MULTILINE)
            ],
            "formulas": re.findall(r"^\$\$.*\$\$$", text, re.MULTILINE),
            "tables": [NUMBER.findall(" ".join(row)) for row in tables(page)],
        }

    english, chinese = parts(ENGLISH), parts(CHINESE)
    assert english == chinese
    assert min(len(part) for part in english.values()) >= 1


def test_the_pages_link_to_each_other_in_their_first_lines() -> None:
    for page, other in ((ENGLISH, CHINESE), (CHINESE, ENGLISH)):
        assert f"({other.name})" in "".join(page.read_text(encoding="utf-8").splitlines()[:4])


def test_the_table_of_the_hiker_is_correct() -> None:
    rows = [row for row in tables(ENGLISH) if row[0].endswith(" km")]
    marks, heights, distances, nearness, weights, shares = (
        np.array([float(NUMBER.findall(cell)[0]) for cell in column]) for column in zip(*rows, strict=True)
    )
    np.testing.assert_array_equal(distances, abs(marks - 3))
    expected = np.exp(-(distances**2) / 2)
    np.testing.assert_allclose(nearness, expected, atol=6e-5)
    np.testing.assert_allclose(weights, expected / expected.sum(), atol=6e-4)
    np.testing.assert_allclose(shares, expected / expected.sum() * heights, atol=0.06)
    (total,) = [row for row in tables(ENGLISH) if row[0] == "sum"]
    assert [float(NUMBER.findall(cell)[0]) for cell in total[3:]] == pytest.approx(
        [expected.sum(), 1, (expected * heights).sum() / expected.sum()], abs=0.06
    )


def test_the_table_of_the_four_words_is_correct(lesson: dict[str, Any]) -> None:
    """Every row of the calculation by hand, computed again."""
    start = next(index for index, row in enumerate(tables(ENGLISH)) if row[1:] == lesson["words"])
    rows = tables(ENGLISH)[start : start + 8]
    query = lesson["q"][1]

    def numbers(row: int) -> torch.Tensor:
        return torch.tensor([[float(number) for number in cell.split("=")[-1].split()] for cell in rows[row][1:]])

    dots = lesson["k"] @ query
    exponentials = (dots / 5**0.5).exp()
    assert torch.equal(numbers(2), lesson["k"])
    assert torch.equal(numbers(3)[:, 0], dots)
    torch.testing.assert_close(numbers(4)[:, 0], dots / 5**0.5, atol=6e-4, rtol=0)
    torch.testing.assert_close(numbers(5)[:, 0], exponentials, atol=6e-4, rtol=0)
    assert f"{exponentials.sum():.3f}" in rows[6][0]
    torch.testing.assert_close(numbers(6)[:, 0], exponentials / exponentials.sum(), atol=6e-4, rtol=0)
    assert torch.equal(numbers(7), lesson["v"])


@pytest.mark.stress
def test_the_command_draws_every_figure_of_the_page(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import draw_attention

    words = ["--output", tmp_path, "--checkpoint", project / CHECKPOINT, "--image", project / SCENE]
    monkeypatch.setattr(sys, "argv", ["draw_attention.py", *map(str, words)])
    draw_attention.main()
    shown = re.findall(r"\]\((images/attention/[^)]+)\)", ENGLISH.read_text(encoding="utf-8"))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(Path(figure).name for figure in shown)
    for figure in shown:
        committed = DOCS / figure
        assert committed.stat().st_size < 150_000, figure
        with Image.open(committed) as picture, Image.open(tmp_path / committed.name) as drawn:
            assert picture.size == drawn.size
            assert picture.width >= 800


def test_a_checkpoint_without_an_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import draw_attention

    monkeypatch.setattr(sys, "argv", ["draw_attention.py", "--checkpoint", "best.ckpt"])
    with pytest.raises(SystemExit, match="2"):
        draw_attention.main()


def numbers_in(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts if NUMBER.fullmatch(text.get_text())]


@pytest.mark.parametrize(
    ("figure", "matrices"),
    [
        ("words", [("w_query", 0), ("q", 0), ("w_key", 0), ("k", 0), ("w_value", 0), ("v", 0), ("x", 0)]),
        ("mask", []),
    ],
)
def test_grids_show_the_numbers_of_the_snippets(
    figure: str, matrices: list[tuple[str, int]], lesson: dict[str, Any]
) -> None:
    from draw_attention import FIGURES

    def written(matrix: torch.Tensor, digits: int) -> list[str]:
        return [f"{number:.{digits}f}" for number in matrix.flatten().tolist() if np.isfinite(number)]

    expected = [number for name, digits in matrices for number in written(lesson[name], digits)]
    scores = lesson["q"] @ lesson["k"].T
    if figure == "words":
        expected += written(scores, 0) + written(lesson["hand_weights"], 3) + written(lesson["hand_output"], 2)
    else:
        lower = scores.masked_fill(~torch.ones(4, 4).tril().bool(), -torch.inf)
        expected += written(lower / 5**0.5, 2) + written((lower / 5**0.5).softmax(-1), 2)
    assert numbers_in(FIGURES[figure](lesson)) == expected


def test_the_color_map_is_perceptually_uniform_from_white_to_blue() -> None:
    colors = np.array(white_to_blue().colors)
    blue = np.array([int(BLUE[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    np.testing.assert_allclose(colors[[0, -1]], [[1, 1, 1], blue], atol=0.01)
    luminance = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]
    lightness = 116 * np.cbrt(luminance) - 16  # CIELAB, not the formula that made them
    steps = -np.diff(lightness)
    assert steps.min() > 0.7 * steps.mean()
    assert steps.max() < 1.3 * steps.mean()
