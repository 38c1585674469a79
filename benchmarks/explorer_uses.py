"""What a reader does with a page of the explorer, one after the other."""

from collections.abc import Callable
from typing import Any

Page = Any
"""Of playwright, which is an extra."""
Use = Callable[[Page], object]


def keys(*pressed: str) -> Use:
    """Press keys one after the other, each when the one before has been answered."""

    def use(page: Page) -> None:
        for key in pressed:
            page.keyboard.press(key)
            page.wait_for_timeout(80)

    return use


def _over_image(page: Page) -> None:
    box = page.locator("#stage").bounding_box()
    for step in range(25):
        share = step / 24
        page.mouse.move(box["x"] + share * box["width"], box["y"] + (0.2 + 0.6 * share) * box["height"])


def _click_points(page: Page) -> None:
    page.keyboard.press("f")
    box = page.locator("#stage").bounding_box()
    for share in (0.3, 0.5, 0.7):
        page.mouse.click(box["x"] + share * box["width"], box["y"] + share * box["height"])
        page.wait_for_timeout(80)


def _wheel(page: Page) -> None:
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for step in [-60] * 8 + [60] * 8:
        page.mouse.wheel(0, step)


def _drag(page: Page) -> None:
    page.keyboard.press("+")
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.6 * box["height"])
    page.mouse.down()
    for step in range(20):
        page.mouse.move(box["x"] + (0.6 - step / 100) * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.up()
    page.locator("#zoom-all").click()


def _set(slider: str, values: tuple[float, ...]) -> Use:
    script = "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', { bubbles: true })); }"

    def use(page: Page) -> None:
        for value in values:
            page.locator(slider).evaluate(script, value)
            page.wait_for_timeout(50)

    return use


def _scroll_list(page: Page) -> None:
    page.keyboard.press("o")
    page.locator("#detections").hover()
    for _ in range(12):
        page.mouse.wheel(0, 600)


def _down_list(page: Page) -> None:
    page.locator("#detections").focus()
    keys(*["ArrowDown"] * 6, "End", "Home")(page)


def _filter_classes(page: Page) -> None:
    chips = page.locator("#classes .chip:visible")
    for number in (0, 1, 0, 1):
        if chips.count() > number:
            chips.nth(number).click()


def _over_matrix(page: Page) -> None:
    keys("q", "n", "r")(page)
    box = page.locator("#matrix").bounding_box()
    for step in range(20) if box else ():
        page.mouse.move(box["x"] + step / 20 * box["width"], box["y"] + step / 20 * box["height"])
    keys("r", "o")(page)


def _down_objects(page: Page) -> None:
    page.keyboard.press("w")
    lists = page.locator("#panel-why [role=listbox]:visible")
    if lists.count():
        lists.first.focus()
        keys(*["ArrowDown"] * 5)(page)


def _thumbnails(page: Page) -> None:
    thumbnails = page.locator("#picker button")
    for number in range(0, min(thumbnails.count(), 30), 7):
        thumbnails.nth(number).click()
        page.wait_for_timeout(150)


USES: dict[str, Use] = {
    "next and previous detection": keys("n", "n", "p", "n"),
    "mouse over the image": _over_image,
    "layers": keys("[", "[", "]", "]"),
    "heads": keys("m", "0", "ArrowRight", "ArrowRight", "m"),
    "play the layers": keys("l", "l"),
    "contours, bare, overlay": keys("v", "v", "v"),
    "colors": keys("g", "g", "g"),
    "smooth on and off": keys("s", "s"),
    "boxes on and off": keys("b", "b"),
    "ground truth on and off": keys("t", "t"),
    "light and dark": keys("d", "d"),
    "zoom with keys": keys("+", "+", "Shift+ArrowRight", "Shift+ArrowDown", "-", "-"),
    "zoom to the object": keys("n", "z", "z"),
    "zoom with the wheel": _wheel,
    "drag what is magnified": _drag,
    "compare": keys("c", "c", "c"),
    "layers while comparing": keys("[", "]"),
    "detections while comparing": keys("n", "n", "p"),
    "mouse over the image while comparing": _over_image,
    "end of comparing": lambda page: page.locator("#compare").select_option("none"),
    "from a point": _click_points,
    "move the point": keys("i", "ArrowRight", "ArrowRight", "ArrowDown", "Escape"),
    "between queries": keys("q", "n", "n", "o"),
    "mouse over the matrix": _over_matrix,
    "why missed": _down_objects,
    "panel of heads": keys("h", "n", "[", "]"),
    "panel of levels": keys("u", "n", "o"),
    "which map is right": keys("a", "e", "e", "e", "o"),
    "minimum score": _set("#threshold", (0.1, 0.3, 0.6, 0.9, 0.3, 0.0)),
    "filter by class": _filter_classes,
    "scroll the list": _scroll_list,
    "arrow keys in the list": _down_list,
    "next image": keys(".", ".", ".", ","),
    "thumbnails": _thumbnails,
}
