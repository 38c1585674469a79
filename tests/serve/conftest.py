"""A headless Chromium with a camera that shows a test picture."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.waiting import PATIENCE


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium: apt install chromium")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox", *camera])
        yield opened
        opened.close()


@pytest.fixture(params=[(1280, 900, "light"), (390, 844, "dark")], ids=lambda values: f"{values[0]} {values[2]}")
def page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    width, height, scheme = request.param
    options = {"viewport": {"width": width, "height": height}, "color_scheme": scheme, "reduced_motion": "reduce"}
    context = browser.new_context(**options)
    context.set_default_timeout(1000 * PATIENCE)
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    yield page
    assert not page.faults
    context.close()
