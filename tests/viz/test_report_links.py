"""The pictures of a run's report lead to the explorer where that page holds them, and nowhere else."""

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from detr_lite.config import read_config
from detr_lite.detector import Detector
from detr_lite.training import closing
from detr_lite.training.evaluation_options import EvaluationOptions
from detr_lite.training.explorer_page import EXPLORER, explore_split
from detr_lite.training.report import write_report
from detr_lite.training.results import find_results
from tests.helpers.explorer_checks import state

LINK = re.compile(r'<a href="([^"]*explorer[^"]*)">([^<]*)')


@pytest.fixture(scope="module")
def flawed_data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy whose labels are wrong, so that a model that is right makes errors: another class in the first image, no
    object any more in the third, and one too many in the last."""
    root = shutil.copytree(tiny_data, tmp_path_factory.mktemp("flawed") / "data")
    file = root / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    first, *_, last = content["annotations"]
    first["category_id"] = 90
    added = {**last, "id": 100, "bbox": [24, 36, 14, 18], "area": 14 * 18}
    kept = [each for each in content["annotations"] if each["image_id"] != 12]
    file.write_text(json.dumps(content | {"annotations": [*kept, added]}))
    return root


@pytest.fixture(scope="module")
def flawed_run(finished_run: Path, flawed_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended with these data."""
    folder = shutil.copytree(finished_run, tmp_path_factory.mktemp("flawed") / "run")
    config = read_config(["--config", str(folder / "config.yaml")]).config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closing, "EvaluationOptions", partial(EvaluationOptions, root=flawed_data))
        closing.finish(folder, config, None)
    return folder


@pytest.fixture
def moved(flawed_run: Path, tmp_path: Path) -> Path:
    """The run in another place and under another name."""
    return shutil.copytree(flawed_run, tmp_path / "moved run")


@pytest.fixture
def explorer_pages(flawed_run: Path) -> Path:
    """In the place of the explorer's pages, so that `visit` opens those of the run."""
    return flawed_run


def links_in(page: Path) -> list[tuple[str, str]]:
    return [(unescape(href), unescape(text)) for href, text in LINK.findall(page.read_text())]


def images_in(page: Path) -> dict[str, str]:
    """Images that the report names under its gallery, and their addresses."""
    return {text: href for href, text in links_in(page) if text.endswith(".png")}


def test_a_run_ends_with_links_to_the_images_that_its_explorer_holds(flawed_run: Path) -> None:
    links = links_in(flawed_run / "report.html")
    assert all(href.startswith("explorer.html#image=") for href, _ in links), "relative, so that folders can be moved"
    found = images_in(flawed_run / "report.html")
    assert set(found) == {"val/000.png", "val/002.png", "val/004.png"}, "all that have errors"
    names = re.findall(r'"name":"(\d+\.png)"', (flawed_run / EXPLORER).read_text())
    assert {name: names[int(href.rpartition("=")[2])] for name, href in found.items()} == {
        name: name.removeprefix("val/") for name in found
    }
    texts = [text for _, text in links]
    assert any(re.fullmatch(r"Why: red thing 0\.\d\d, annotated as green thing", text) for text in texts)
    assert any(re.fullmatch(r"Why: green thing 0\.\d\d where nothing is annotated", text) for text in texts)
    assert any(text.startswith("Why: missed ") for text in texts)


@pytest.mark.parametrize(
    ("text", "answer"),
    [("missed blue thing", "blue thing 2: missed"), ("annotated as green thing", ": wrong class")],
)
@pytest.mark.slow
def test_a_picture_leads_to_the_answer(visit: Any, text: str, answer: str) -> None:
    page = visit(name="report")
    page.locator("#worst-cards .picture", has_text=text).click()
    links = page.locator("#large-links a")
    assert links.first.inner_text() == "Open in the explorer"
    page.locator("#large-links a", has_text=text).click()
    page.wait_for_url("**/explorer.html#image=*")
    page.evaluate("explorer.ready")
    assert state(page)["view"] == "why"
    assert answer in page.locator(".answer h3").inner_text()
    assert state(page)["query"] is not None, "its attention is shown"
    assert page.locator("#heatmap").is_visible()


@pytest.mark.slow
def test_pictures_of_likely_label_errors_do_too(visit: Any) -> None:
    page = visit(name="report")
    page.locator("#labels .picture", has_text="rather red thing?").click()
    page.locator("#large-links a").first.click()
    page.wait_for_url("**/explorer.html#image=*")
    page.evaluate("explorer.ready")
    assert "000.png" in page.locator("#subtitle").inner_text()


@pytest.mark.slow
def test_links_are_those_of_the_picture_that_is_shown(visit: Any) -> None:
    page = visit(name="report")
    page.locator("#worst-cards .picture").first.click()
    first = page.locator("#large-links a").first.get_attribute("href")
    page.locator("#large-links a").first.focus()
    page.keyboard.press("ArrowRight")
    second = page.locator("#large-links a").first.get_attribute("href")
    assert first != second
    assert page.evaluate("document.activeElement.getAttribute('href')") == second, "the focus stays with the links"


def test_a_report_made_again_keeps_them(moved: Path, flawed_data: Path) -> None:
    before = links_in(moved / "report.html")
    (moved / "report.html").unlink()
    write_report(moved, truth=flawed_data)
    assert links_in(moved / "report.html") == before


def no_scores(found: re.Match[str]) -> str:
    """The detections of a model that finds nothing."""
    return f'"scores":{json.dumps([0.0] * len(json.loads(found[0].partition(":")[2])))}'


@pytest.mark.parametrize(
    "spoil",
    [
        lambda page, _: page.unlink(),
        lambda page, _: page.write_text("<p>mine</p>"),
        lambda page, text: page.write_text(text[: len(text) // 50]),
        lambda page, text: page.write_text(text.replace('"outcome"', '"result"')),
        lambda page, text: page.write_text(re.sub(r'"width":\d+', '"width":33', text)),
        lambda page, text: page.write_text(re.sub(r'"name":"(\d+\.png)"', r'"name":"other \1"', text)),
        lambda page, text: page.write_text(re.sub(r'("truth":{"boxes":\[)', r"\1[1,1,9,9],", text)),
        lambda page, text: page.write_text(re.sub(r'"scores":\[[^\]]*\]', no_scores, text)),
    ],
    ids=["gone", "of another program", "cut off", "of another version", "size", "name", "objects", "detections"],
)
def test_nothing_leads_to_a_page_without_the_image(
    moved: Path, flawed_data: Path, spoil: Callable[[Path, str], Any]
) -> None:
    spoil(moved / EXPLORER, (moved / EXPLORER).read_text())
    write_report(moved, truth=flawed_data)
    assert links_in(moved / "report.html") == []


def test_a_report_elsewhere_has_none(moved: Path, flawed_data: Path, tmp_path: Path) -> None:
    write_report(moved, tmp_path / "elsewhere.html", truth=flawed_data)
    assert links_in(tmp_path / "elsewhere.html") == []


def test_the_labels_of_other_data_are_no_reason_to_link(moved: Path, tiny_data: Path) -> None:
    """Those of the first image differ, so that "missed" would mean another object."""
    write_report(moved, truth=tiny_data)
    assert "val/000.png" not in images_in(moved / "report.html")


@pytest.mark.slow
def test_images_that_the_page_lacks(moved: Path, flawed_data: Path) -> None:
    """After a slow model, the explorer holds a part of the images."""
    results = find_results(moved, flawed_data)
    assert results.model is not None
    detector = Detector.from_checkpoint(moved / "checkpoints" / "best.ckpt", "cpu")
    explore_split(detector, results.model.split, [4], moved / EXPLORER, results.model.threshold)
    write_report(moved, truth=flawed_data)
    assert images_in(moved / "report.html") == {"val/004.png": "explorer.html#image=0"}


def test_another_minimum_score_is_in_the_address(moved: Path, flawed_data: Path) -> None:
    page = moved / EXPLORER
    page.write_text(re.sub(r'"threshold":0\.\d+,"layer"', '"threshold":0.9,"layer"', page.read_text(), count=1))
    results = write_report(moved, truth=flawed_data)
    assert results.model is not None
    links = links_in(moved / "report.html")
    assert links
    assert all(href.endswith(f"score={results.model.threshold}") for href, _ in links)
