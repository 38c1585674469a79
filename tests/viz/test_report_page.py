"""The report of a run in a real browser: numbers, charts, gallery, filters, sorting, keys, themes, hostile names."""

from pathlib import Path

import numpy as np
import pytest

from detr_lite.structures import DetectionArrays
from detr_lite.viz.report.compared import compare_models
from detr_lite.viz.report.comparison import comparison_page
from detr_lite.viz.report.content import Evaluated, RunFacts
from detr_lite.viz.report.errors import TITLES
from detr_lite.viz.report.page import PAGE_BYTES, report_page
from detr_lite.viz.report.worst import worst_images
from tests.helpers.explorer_checks import wait
from tests.helpers.page_checks import CONTRASTS, WIDER
from tests.helpers.report_models import IMAGES, NASTY, drawn_split, evaluated, flawed_detections

pytestmark = pytest.mark.slow

STEPS = np.arange(10.0, 400, 10)
RUN = RunFacts(
    history={
        "step": STEPS,
        "loss": 10 / STEPS,
        "loss_l1": 3 / STEPS,
        "AP": np.where(STEPS % 100 == 0, STEPS / 500, np.nan),
    },
    settings=[("data.root", NASTY), ("optim.lr", "0.0028")],
    facts=[("Data", "val.json"), ("Content", "12 images")],
    commands=[("Detect:", f"python tools/predict.py --checkpoint '{NASTY}'")],
    notes=["The run was still rising."],
    explore="python tools/visualize.py --checkpoint best.ckpt --explore explorer.html",
)
TEXTS = ["h1", "h2", ".intro", ".lead", ".caption", ".detail", "summary", ".chip", "td", "th", ".legend", ".note"]
TEXTS += [
    ".contents a",
    "footer",
    ".big dt",
    ".findings li",
    ".confusion .same",
    ".sortable button",
    "pre code",
    ".copy",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    split = drawn_split(tmp_path_factory.mktemp("dataset"))
    return evaluated(split, flawed_detections(split))


@pytest.fixture(scope="module")
def explorer_pages(tmp_path_factory: pytest.TempPathFactory, model: Evaluated) -> Path:
    """In the place of the explorer's pages, so that `visit` opens these and watches for errors and requests."""
    folder = tmp_path_factory.mktemp("pages")
    none = model.detections.select(np.zeros(len(model.detections.scores), dtype=bool))
    nothing = evaluated(model.split, none, "nothing")
    perfect = evaluated(model.split, _perfect(model), "perfect")
    split = drawn_split(tmp_path_factory.mktemp("many"), unused=["", "x" * 300, *(f"class {n}" for n in range(60))])
    many = evaluated(split, flawed_detections(split), "many")
    (folder / "many.html").write_text(report_page(many, RUN))
    (folder / "all.html").write_text(report_page(model, RUN))
    (folder / "nothing.html").write_text(report_page(nothing, RunFacts()))
    (folder / "perfect.html").write_text(report_page(perfect, RunFacts()))
    results = [(each.name, each.evaluation.metrics, each) for each in (model, perfect)]
    numbers = ("numbers", model.evaluation.metrics, None)
    (folder / "compared.html").write_text(comparison_page(compare_models([*results, numbers], samples=100)))
    return folder


def _perfect(model: Evaluated) -> DetectionArrays:
    truth = model.split.ground_truth
    return DetectionArrays(truth.image_index, truth.labels, truth.boxes_xywh, np.full(len(truth.labels), 0.9))


def test_every_kind_of_error_is_counted_and_shown(visit, model: Evaluated) -> None:
    page = visit()
    shown = {
        chip.get_attribute("data-error"): int(chip.locator(".count").inner_text())
        for chip in page.locator("#worst-filters .chip").all()
    }
    expected = {kind: sum(each.kind == kind for each in model.analysis.findings) for kind in TITLES}
    assert {kind: count for kind, count in shown.items() if kind} == {
        kind: count for kind, count in expected.items() if count
    }
    assert set(shown) - {""} == set(TITLES), "the flaws are of every kind"
    table = page.locator("#errors .bars").first.inner_text()
    assert all(title in table for title in TITLES.values())


def test_the_filters_show_one_kind_and_one_class(visit) -> None:
    page = visit()
    cards = page.locator("#worst-cards .picture")
    assert cards.count() == 7
    page.locator('#worst-filters [data-error="duplicate"]').click()
    assert page.locator("#worst-cards .picture:visible").count() == 1
    assert "duplicate" in page.locator("#worst-cards .picture:visible .caption").inner_text()
    page.locator("#worst-class").select_option(label="spoon")
    assert page.locator("#worst-cards .picture:visible").count() == 0
    assert "choose another" in page.locator("#worst-note").inner_text()
    page.locator('#worst-filters [data-error=""]').click()
    assert page.locator("#worst-cards .picture:visible").count() >= 2


def test_a_filtered_gallery_is_walked_by_the_keyboard(visit) -> None:
    page = visit()
    page.locator('#worst-filters [data-error="missed"]').click()
    visible = page.locator("#worst-cards .picture:visible")
    count = visible.count()
    assert count == 3
    visible.first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#large")
    assert f"(1 of {count})" in dialog.inner_text()
    page.keyboard.press("ArrowRight")
    assert f"(2 of {count})" in dialog.inner_text()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert f"({count} of {count})" in dialog.inner_text(), "before the first comes the last"
    assert dialog.locator("svg text").first.is_visible(), "boxes have their names where they are large"
    page.keyboard.press("Escape")
    wait(page, "!document.getElementById('large').open")
    assert not dialog.is_visible()


def test_both_sides_show_the_same_part_of_the_image(visit) -> None:
    page = visit()
    for card in page.locator("#worst-cards .picture").all():
        views = {svg.get_attribute("viewBox") for svg in card.locator(".frame svg").all()}
        assert len(views) == 1


def test_tables_sort_by_a_heading(visit, model: Evaluated) -> None:
    page = visit()
    table = page.locator("#metrics table.sortable")
    column = [head.inner_text().split()[0] for head in table.locator("thead th").all()].index("AP")
    expected = sorted(result.AP for result in model.evaluation.per_class)
    for order in (reversed(expected), expected):
        table.locator("thead button").nth(column).click()
        texts = [row.locator("td").nth(column - 1).inner_text() for row in table.locator("tbody tr").all()]
        assert texts == [f"{value:.3f}" for value in order]
    assert table.locator("thead th").nth(column).get_attribute("aria-sort") == "ascending"


def test_the_summary_and_the_curves(visit, model: Evaluated) -> None:
    page = visit()
    summary = page.locator("#verdict").inner_text()
    assert f"{model.evaluation.metrics['AP']:.3f}" in summary
    assert "The run was still rising." in summary
    assert page.locator("h2").first.inner_text() == model.analysis.diagnosis.first
    assert page.locator("#history svg.chart").count() == 2
    assert page.locator("#scores svg.chart").count() == 2


def test_the_confusion_matrix_adds_up(visit, model: Evaluated) -> None:
    page = visit()
    rows = page.locator(".confusion tbody tr").all()
    counts = [[int(cell.inner_text() or 0) for cell in row.locator("td").all()] for row in rows]
    assert counts == model.analysis.confusion.matrix.tolist()
    assert sum(map(sum, counts[:-1])) == 2 * IMAGES


@pytest.mark.parametrize("name", ["all", "many", "compared"])
@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_nothing_is_wider_than_the_window(visit, width: int, name: str) -> None:
    page = visit(name=name, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WIDER, "body *") == []
    page.locator(".picture").first.click()
    assert page.evaluate(WIDER, "#large *") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_themes(visit, scheme: str) -> None:
    """Contrast of at least 4.5, as level AA asks for."""
    page = visit(color_scheme=scheme)
    page.locator(".commands summary").click()
    ratios = page.evaluate(CONTRASTS, TEXTS)
    assert [(selector, round(ratio, 2)) for selector, ratio in ratios if ratio < 4.5] == []


@pytest.mark.parametrize("name", ["all", "compared"])
def test_names_stay_text(visit, name: str) -> None:
    page = visit(name=name)
    assert page.evaluate("window.hurt") is None
    assert page.locator("img[src=x]").count() == 0
    assert NASTY in page.locator("header").inner_text()


def test_classes_with_objects_are_seen_and_long_names_are_cut(visit) -> None:
    page = visit(name="many")
    rows = page.locator("#metrics .sortable tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows[:5]] == ["plate", NASTY, "spoon", "(id 1)", f"{'x' * 22} ... {'x' * 21}"]
    assert len(rows) == 65
    assert "x" * 49 not in page.content()


def test_reports_of_nothing_and_of_no_errors(visit) -> None:
    nothing = visit(name="nothing")
    assert nothing.locator("#verdict").inner_text()
    perfect = visit(name="perfect")
    assert "No errors at this threshold" in perfect.locator("#worst").inner_text()


def test_a_comparison(visit) -> None:
    page = visit(name="compared")
    assert page.locator("#found .group").count() == 1, "the perfect model misses nothing"
    assert page.locator("#found .group .count").first.inner_text() == "6"
    assert page.locator("#metrics tbody tr").count() == 12
    assert "perfect" in page.locator("#verdict h2").inner_text()


def test_without_scripts_everything_is_there(visit) -> None:
    page = visit(java_script_enabled=False)
    assert page.locator("#worst-cards img").count() == 14


def test_the_page_is_at_most_ten_megabytes(model: Evaluated) -> None:
    assert PAGE_BYTES == 10_000_000
    whole = report_page(model, RUN)
    assert len(whole.encode()) < PAGE_BYTES
    assert len(report_page(model, RUN, 1_210_000).encode()) < len(whole.encode())
    assert report_page(model, RUN) == whole


def test_each_kind_has_a_turn(model: Evaluated) -> None:
    images = worst_images(model.analysis.findings, limit=6)
    kinds = {each.kind for each in model.analysis.findings if each.image in images}
    assert kinds == set(TITLES)
