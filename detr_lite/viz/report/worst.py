"""The gallery of the worst images: ground truth beside detections, with a filter by kind of error and by class."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest

from detr_lite.evaluation.error_kinds import ErrorKind, Finding
from detr_lite.viz.pages.gallery import links_of_picture
from detr_lite.viz.pages.html import Html, element, join, wrappable
from detr_lite.viz.pages.pictures import Mark, PictureBudget
from detr_lite.viz.pages.split_views import corners, image_name, view_of
from detr_lite.viz.report.content import Evaluated
from detr_lite.viz.report.errors import TITLES
from detr_lite.viz.report.explored import ExploredImages

PICTURES = 48
"""Most images in the gallery."""
_MOST_TAGS = 12
"""Errors of one image that are named in its caption and on it."""
_EXPLORED = 8
"""Images of the command that explores the first of them."""


def worst_images(findings: Sequence[Finding], limit: int = PICTURES) -> list[int]:
    """Images with errors, such that every kind of error is shown: in turn the worst image of each kind."""
    by_kind: dict[ErrorKind, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for finding in findings:
        by_kind[finding.kind][finding.image] += _weight(finding)
    ranked = [sorted(weights, key=lambda image: -weights[image]) for weights in by_kind.values()]
    in_turn = (image for turn in zip_longest(*ranked) for image in turn if image is not None)
    return list(islice(dict.fromkeys(in_turn), limit))


def worst_section(model: Evaluated, budget: PictureBudget, explore: str, explored: ExploredImages) -> Html:
    """The gallery; a note where there are no errors."""
    findings = model.analysis.findings
    if not findings:
        return element("p", "No errors at this threshold.", class_="note")
    by_image: dict[int, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_image[finding.image].append(finding)
    images, cards = worst_images(findings), []
    for image in images:
        card = _card(model, image, sorted(by_image[image], key=_weight, reverse=True), budget, explored)
        if card is None:
            break
        cards.append(card)
    kinds = Counter(finding.kind for image in images[: len(cards)] for finding in by_image[image])
    classes = Counter(
        label for image in images[: len(cards)] for each in by_image[image] for label in _labels(model, each)
    )
    shown = f"{len(cards):,} of {len(by_image):,} images with errors are shown"
    why = "" if len(cards) == len(images) else "; the page holds at most 10 MB"
    return join(
        _filters(kinds, classes, model.class_names),
        element(
            "div", *cards, class_="cards pairs", role="group", aria_label="Pictures: worst images", id="worst-cards"
        ),
        element("p", f"{shown}{why}.", class_="note", id="worst-note", data_all=f"{shown}{why}."),
        _explored(explored, model, images[: len(cards)]),
        _commands(model, images[: len(cards)], explore),
    )


def _filters(kinds: Mapping[ErrorKind, int], classes: Mapping[int, int], names: Sequence[str]) -> Html:
    chips = [_chip("", "All", sum(kinds.values()), True)]
    chips += [_chip(kind, TITLES[kind], kinds[kind], False) for kind in TITLES if kind in kinds]
    options = [element("option", "all classes", value="")]
    options += [element("option", names[label], value=str(label)) for label in sorted(classes)]
    select = element("label", "Class ", element("select", *options, id="worst-class"), class_="select")
    return element(
        "div",
        *chips,
        select if len(classes) > 1 else None,
        class_="chips",
        role="group",
        id="worst-filters",
        aria_label="Show one kind of error alone",
    )


def _chip(kind: str, title: str, count: int, is_pressed: bool) -> Html:
    number = element("span", f"{count:,}", class_="count")
    return element("button", element("span", title), number, type="button", class_="chip", data_error=kind,
                   aria_pressed="true" if is_pressed else "false")  # fmt: skip


def _card(
    model: Evaluated, image: int, findings: Sequence[Finding], budget: PictureBudget, explored: ExploredImages
) -> Html | None:
    """None once the budget is spent."""
    truth, detected = _marks(model, image, findings)
    frames = []
    for marks, others in ((truth, detected), (detected, truth)):
        focus = tuple(mark for mark in others if mark.style != "context")
        frame = budget.picture(view_of(model.split, image, tuple(marks)), focus)
        if frame is None:
            return None
        frames.append(frame)
    counts = Counter(finding.kind for finding in findings)
    caption = ", ".join(f"{count} {TITLES[kind].lower()}" for kind, count in counts.items())
    details = [_describe(model, finding) for finding in findings[:_MOST_TAGS]]
    rest = len(findings) - len(details)
    detail = "; ".join([*details, *([f"and {rest} more"] if rest > 0 else [])])
    name = image_name(model.split, image)
    tagged = zip(details, findings, strict=False)
    links = explored.links_of(image, [(text, finding.detection, finding.object) for text, finding in tagged])
    return element(
        "button",
        element("span", *frames, class_="frames"),
        element("span", caption, class_="caption"),
        element("span", wrappable(name), class_="detail", title=name),
        element("span", detail, class_="detail only-large"),
        links_of_picture(links),
        type="button",
        class_="picture",
        data_views="2",
        data_errors=" ".join(counts),
        data_classes=" ".join(
            str(label) for label in sorted({each for one in findings for each in _labels(model, one)})
        ),
    )


def _marks(model: Evaluated, image: int, findings: Sequence[Finding]) -> tuple[list[Mark], list[Mark]]:
    """On the annotated and on the detected side; what is right is drawn thinly."""
    truth, detections = model.split.ground_truth, model.detections
    objects = {finding.object: finding for finding in reversed(findings) if finding.object is not None}
    false = {finding.detection: finding for finding in findings if finding.detection is not None}
    tagged = {id(finding) for finding in findings[:_MOST_TAGS]}
    left, right = [], []
    for place in (truth.image_index == image).nonzero()[0].tolist():
        if truth.is_crowd[place]:
            continue
        name, finding = model.class_names[truth.labels[place]], objects.get(place)
        label = name if finding is None or finding.kind != "missed" else f"missed: {name}"
        left.append(
            Mark(
                corners(truth.boxes_xywh[place]),
                "context" if finding is None else "annotated",
                label,
                label if finding is not None and id(finding) in tagged else "",
            )
        )
    is_shown = (detections.image_index == image) & (detections.scores >= model.threshold)
    for place in is_shown.nonzero()[0].tolist():
        name, finding = model.class_names[detections.labels[place]], false.get(place)
        text = f"{name} {detections.scores[place]:.2f}"
        label = text if finding is None else f"{TITLES[finding.kind].lower()}: {text}"
        right.append(
            Mark(
                corners(detections.boxes_xywh[place]),
                "context" if finding is None else "other",
                label,
                label if finding is not None and id(finding) in tagged else "",
            )
        )
    # What is wrong lies above what is right.
    return (
        sorted(left, key=lambda mark: mark.style != "context"),
        sorted(right, key=lambda mark: mark.style != "context"),
    )


def _describe(model: Evaluated, finding: Finding) -> str:
    truth, detections = model.split.ground_truth, model.detections
    true = "" if finding.object is None else model.class_names[truth.labels[finding.object]]
    if finding.detection is None:
        return f"missed {true}"
    found = f"{model.class_names[detections.labels[finding.detection]]} {finding.score:.2f}"
    if finding.kind == "background":
        return f"{found} where nothing is annotated"
    if finding.kind == "duplicate":
        return f"{found}, a second one of a {true}"
    if finding.kind == "classification":
        return f"{found}, annotated as {true}"
    more = f", annotated as {true}" if finding.kind == "both" else ""
    return f"{found} badly placed (IoU {finding.iou:.2f}){more}"


def _labels(model: Evaluated, finding: Finding) -> Iterator[int]:
    if finding.object is not None:
        yield int(model.split.ground_truth.labels[finding.object])
    if finding.detection is not None:
        yield int(model.detections.labels[finding.detection])


def _explored(explored: ExploredImages, model: Evaluated, images: Sequence[int]) -> Html | None:
    """Links for those who read without the large view."""
    found = [(explored.href(image), image_name(model.split, image)) for image in images]
    links = [element("a", name, href=href) for href, name in found if href is not None]
    if not links:
        return None
    separated = [part for link in links for part in (", ", link)][1:]
    return element("p", "Where did the model look? In the explorer: ", *separated, ".", class_="note", id="explored")


def _commands(model: Evaluated, images: Sequence[int], explore: str) -> Html | None:
    if not explore or not images:
        return None
    paths = [shlex.quote(str(model.split.images[image].path)) for image in images]
    first = f"{explore} --source {' '.join(paths[:_EXPLORED])}"
    items = [element("li", element("code", wrappable(path))) for path in paths]
    return element(
        "details",
        element("summary", "Where did the model look? The command that shows it, for these images"),
        element("pre", element("code", first)),
        element("p", "The paths of all pictures, in the gallery's order:", class_="note"),
        element("div", element("ol", *items, class_="entries"), class_="long"),
    )


def _weight(finding: Finding) -> float:
    """A missed object counts as much as a false detection with full confidence."""
    return 1.0 if finding.detection is None else finding.score
