"""The server's page in a browser: pictures in, boxes, filters, the explorer, files and the camera."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers.page_checks import CONTRASTS, WIDER
from tests.helpers.photos import photo
from tests.helpers.served import Served, served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def best(finished_run: Path) -> Path:
    return finished_run / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def server(best: Path) -> Iterator[Served]:
    with served("--checkpoint", best, best.with_name("last.ckpt")) as running:
        yield running


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "<b>one.png", tmp_path / "two.jpg"]
    for number, path in enumerate(paths):
        photo((90, 60), number).save(path)
    return paths


def open_with(page: Any, server: Served, pictures: list[Path]) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.locator("#app").wait_for()
    page.set_input_files("#files", list(map(str, pictures)))
    for number in range(2):
        page.locator(".view ol").nth(number).wait_for(state="attached")  # an empty list is not visible


def set_score(page: Any, score: float) -> None:
    page.locator("#score").fill(str(score))


def test_pictures_are_answered_by_both_models(page: Any, server: Served, pictures: list[Path]) -> None:
    open_with(page, server, pictures)
    set_score(page, 0.05)
    expected = [
        len(server.ask("POST", f"/v1/detect?threshold=0.05&model={name}", pictures[1].read_bytes())[1]["annotations"])
        for name in ("finished", "finished-last")
    ]
    assert [page.locator(".view ol").nth(number).locator("li").count() for number in range(2)] == expected
    assert page.locator(".strip button").count() == 2
    assert page.locator("canvas").first.evaluate("(one) => one.width / one.height") == pytest.approx(1.5)
    set_score(page, 1)
    assert page.locator(".view li").count() == 0
    page.locator("#best").click()
    assert float(page.locator("#score-value").inner_text()) == pytest.approx(
        server.ask("GET", "/v1/models")[1]["models"][0]["threshold"], abs=0.006
    )
    assert page.evaluate(WIDER, "main *") == []
    assert all(ratio >= 4.5 for _, ratio in page.evaluate(CONTRASTS, ["h1", "#subtitle", ".view h2", ".view h2 span"]))


def test_classes_are_switched_off(page: Any, server: Served, pictures: list[Path]) -> None:
    open_with(page, server, pictures)
    set_score(page, 0.05)
    chip = page.locator(".chip").first
    name, count = chip.inner_text().rsplit("\n", 1) if "\n" in chip.inner_text() else chip.inner_text().rsplit(" ", 1)
    before = page.locator(".view li").count()
    chip.click()
    assert page.locator(".view li").count() == before - int(count)
    assert page.locator('.chip[aria-pressed="false"]').count() == 1
    assert name.strip() in page.locator('.chip[aria-pressed="false"]').inner_text()


def test_the_explorer_opens_in_a_tab_of_its_own(page: Any, server: Served, pictures: list[Path]) -> None:
    """Of a picture whose name is markup."""
    open_with(page, server, pictures)
    page.keyboard.press("ArrowLeft")
    with page.context.expect_page() as opened:
        page.get_by_role("button", name="Explore the attention").first.click()
    explorer = opened.value
    explorer.wait_for_url("**/explorer/*")
    explorer.get_by_text("<b>one.png").first.wait_for()
    assert "<b>one.png" in explorer.locator("body").inner_text()
    assert explorer.locator("b", has_text="one.png").count() == 0


def test_picture_and_json_are_saved(page: Any, server: Served, pictures: list[Path], tmp_path: Path) -> None:
    open_with(page, server, pictures)
    set_score(page, 0.05)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save JSON").first.click()
    assert download.value.suggested_filename == "two-finished.json"
    saved = json.loads(Path(download.value.path()).read_text())
    assert len(saved["annotations"]) == page.locator(".view ol").first.locator("li").count()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save picture").first.click()
    image = Image.open(download.value.path())
    assert image.width / image.height == 1.5


def test_the_camera(page: Any, server: Served) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.locator("#app").wait_for()
    page.locator("#camera").click()
    page.locator(".view ol").first.wait_for(state="attached")
    page.locator("#stop").click()
    assert page.locator("#stop").is_hidden()


def test_a_file_that_is_no_picture_says_so(page: Any, server: Served, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.locator("#app").wait_for()
    page.set_input_files("#files", str(tmp_path / "broken.png"))
    assert page.locator(".failed").first.inner_text() == "the body is not a picture that can be read"


@pytest.mark.stress
def test_the_token_is_asked_for(page: Any, best: Path) -> None:
    with served("--checkpoint", best, "--token", "secret-token") as running:
        page.goto(f"http://127.0.0.1:{running.port}/")
        page.locator("#token").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("That is not the token.").wait_for()
        page.locator("#token").fill("secret-token")
        page.keyboard.press("Enter")
        page.locator("#app").wait_for()


def test_the_description_of_the_api(page: Any, server: Served) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/docs")
    assert page.locator("h2", has_text="POST /v1/detect").count() == 1
    assert page.evaluate(WIDER, "main *") == []
