"""Relevance and occlusion as the explorer draws them, compared with what its page `maps.html` was made of."""

from tests.helpers.explorer_checks import assert_drawn, summed
from tests.helpers.fake_attribution import attribution

GIVEN = attribution()
"""Of the queries 3 and 1, the first two of four detections."""


def choose(page, name):
    page.locator("#source").select_option(name)


def assert_relevance(page, row=0, given=GIVEN):
    assert_drawn(page, summed(given.relevance[row]), peak=1.25 * float(given.relevance[row].max()))


def assert_occlusion(page, row=0, given=GIVEN):
    expected = given.occlusion[row].clamp(min=0).view(given.grid)
    assert_drawn(page, expected, peak=float(expected.max()))


def text(page, place):
    return page.locator(place).inner_text()
