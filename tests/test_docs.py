"""What the documents say of the code that stands beside them."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
TESTS = {
    name
    for file in (PROJECT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
}
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def test_every_test_that_the_page_on_reliability_names_is_there() -> None:
    named = re.findall(r"`(test_\w+)`", (PROJECT / "docs/reliability.md").read_text())
    assert len(named) > 50
    assert sorted({*named} - TESTS) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    local = [target for target in targets if not target.startswith(("http://", "https://"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = (PROJECT / "docs/README.md").read_text()
    assert [page.name for page in sorted((PROJECT / "docs").glob("*.md")) if page.name not in index] == []
