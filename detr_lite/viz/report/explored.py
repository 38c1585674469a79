"""Links from the pictures of a report to the explorer's page beside it, where that page holds the image."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import numpy as np

from detr_lite.evaluation.label_errors import LabelError
from detr_lite.viz.explorer.read_page import ReadPage, ReadScene
from detr_lite.viz.pages.gallery import Link
from detr_lite.viz.report.content import Evaluated
from detr_lite.viz.report.same_image import is_same_file, same_detections, same_objects

OPEN = "Open in the explorer"
"""The link to an image; others say what they are about."""


@dataclass(frozen=True)
class _ExploredImage:
    page: ReadPage
    scene: ReadScene
    objects: dict[int, int]
    """Place in the ground truth -> number of the true object in the page."""
    detections: dict[int, int]
    """Place in the report's detections -> place in those of the page."""
    threshold: float
    """Of the report."""

    def href(self, score: float = 1.0, **view: int | str) -> str:
        """Relative to the report.

        Args:
            score: which must be visible.
        """
        image: dict[str, object] = {"image": self.scene.image}
        if self.scene.model:
            image["model"] = self.scene.model
        shown_from = min(self.threshold, score)
        at_score = {} if shown_from == self.page.threshold else {"score": shown_from}
        return f"{quote(self.page.file)}#{urlencode(image | view | at_score)}"

    def of_object(self, place: int) -> str | None:
        """Why the object was missed, with the query that says so; None without an answer in the page."""
        number = self.objects.get(place)
        if number is None or self.scene.outcome is None:
            return None
        verdicts = self.scene.outcome["objects"][number]["verdicts"]
        query = [verdict["query"] for verdict in verdicts if verdict["threshold"] >= self.threshold][-1]
        return self.href(view="why", object=number, query=query)

    def of_detection(self, place: int) -> str | None:
        """What is wrong with it, and where its query looked; None if it is not in the page."""
        number = self.detections.get(place)
        if number is None:
            return None
        view = "detections" if self.scene.outcome is None else "why"
        query, label = int(self.scene.queries[number]), int(self.scene.labels[number])
        return self.href(float(self.scene.scores[number]), view=view, query=query, label=label)


class ExploredImages:
    """The images of a report that the explorer's page holds."""

    def __init__(self, model: Evaluated, page: ReadPage | None) -> None:
        """
        Args:
            page: the explorer's page beside the report, if there is one.
        """
        self.model, self.page = model, page
        self._found: dict[int, _ExploredImage | None] = {}

    def href(self, image: int) -> str | None:
        """The address of an image; None if the page does not hold it."""
        found = self._of(image)
        return None if found is None else found.href()

    def links_of(self, image: int, errors: Sequence[tuple[str, int | None, int | None]] = ()) -> tuple[Link, ...]:
        """To an image, and to each of its errors that the page can show; none if it does not hold the image.

        Args:
            errors: a text, and the place of the detection or, without one, of the missed object.
        """
        found = self._of(image)
        if found is None:
            return ()
        links = [Link(found.href(), OPEN)]
        for text, detection, object in errors:
            href = None
            if detection is not None:
                href = found.of_detection(detection)
            elif object is not None:
                href = found.of_object(object)
            if href is not None:
                links.append(Link(href, f"Why: {text}"))
        return tuple(links)

    def links_of_label(self, error: LabelError, text: str) -> tuple[Link, ...]:
        """Those of a label that is likely wrong."""
        if error.kind == "unfound":
            return self.links_of(error.image, [(text, None, error.object)])
        found = self.model.detections
        is_meant = (found.image_index == error.image) & (found.labels == error.label) & (found.scores == error.score)
        corner = np.array(error.box_xyxy[:2])
        is_meant &= (found.boxes_xywh[:, :2] == corner).all(axis=1)
        places = np.flatnonzero(is_meant).tolist()
        return self.links_of(error.image, [(text, place, None) for place in places[:1]])

    def _of(self, image: int) -> _ExploredImage | None:
        if image not in self._found:
            self._found[image] = self._find(image)
        return self._found[image]

    def _find(self, image: int) -> _ExploredImage | None:
        if self.page is None:
            return None
        for scene in self.page.scenes:
            if is_same_file(self.model, image, scene):
                objects = same_objects(self.model, image, scene)
                detections = same_detections(self.model, image, self.page, scene)
                if objects is not None and detections is not None:
                    return _ExploredImage(self.page, scene, objects, detections, self.model.threshold)
        return None
