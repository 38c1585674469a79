"""A model's own thread: requests that wait for it are answered in batches."""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from detr_lite.data.images.convert import as_image
from detr_lite.detector import Detector
from detr_lite.serve.limits import RefusalError
from detr_lite.structures import Detections, DetrLiteError
from detr_lite.text import reason_of
from detr_lite.viz.explorer.models import ExploredModel

logger = logging.getLogger(__name__)

Answer = Callable[[Detector, Image.Image], Any]


@dataclass(frozen=True)
class Detected:
    """The detections in one picture of this size."""

    detections: Detections
    width: int
    height: int


@dataclass(frozen=True)
class _Job:
    picture: Image.Image
    answer: Answer | None
    """Called instead of the detector, alone in its batch."""
    future: "Future[Any]" = field(default_factory=Future)


class ModelWorker:
    """Answers requests of one model, one batch after the other.

    Args:
        name: of the model, in requests and answers.
        explored: what the explorer says of it.
        batch_size: most pictures that are decoded and run at once.
        waiting: most requests that wait.
    """

    def __init__(self, name: str, detector: Detector, explored: ExploredModel, batch_size: int, waiting: int) -> None:
        self.name = name
        self.explored = explored
        self.detector = detector
        self.batch_size = batch_size
        self.jobs: queue.Queue[_Job | None] = queue.Queue(waiting)
        self.is_closing = False
        self.thread = threading.Thread(target=self._work, name=f"model {name}", daemon=True)
        self.thread.start()

    def submit(self, picture: Image.Image, answer: Answer | None = None) -> "Future[Any]":
        """The `Detected` of a picture, or what `answer` gives, later.

        Raises `RefusalError`: 429 if too many requests wait, 503 if the server is stopping.
        """
        job = _Job(picture, answer)
        if self.is_closing:
            raise RefusalError(503, "the server is stopping")
        try:
            self.jobs.put_nowait(job)
        except queue.Full as error:
            raise RefusalError(429, "too many requests are waiting; try again in a moment") from error
        return job.future

    def close(self) -> None:
        """Refuse requests that wait; those being answered are finished."""
        self.is_closing = True
        with_no_answer = []
        while True:
            try:
                job = self.jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                with_no_answer.append(job)
        for job in with_no_answer:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(RefusalError(503, "the server is stopping"))
        self.jobs.put(None)

    def _work(self) -> None:
        left_over: _Job | None = None
        while True:
            job = left_over or self.jobs.get()
            left_over = None
            if job is None:
                return
            batch = [job]
            while job.answer is None and len(batch) < self.batch_size:
                try:
                    other = self.jobs.get_nowait()
                except queue.Empty:
                    break
                if other is None:
                    self.jobs.put(None)
                    break
                if other.answer is not None:
                    left_over = other
                    break
                batch.append(other)
            self._answer([each for each in batch if each.future.set_running_or_notify_cancel()])

    def _answer(self, jobs: Sequence[_Job]) -> None:
        images, readable = [], []
        for job in jobs:
            try:
                images.append(as_image(job.picture, self.detector.orientation))
                readable.append(job)
            except DetrLiteError as error:
                job.future.set_exception(RefusalError(422, str(error)))
            except Exception as error:  # such as too little memory for one picture
                job.future.set_exception(RefusalError(422, f"the picture cannot be decoded ({reason_of(error)})"))
        if not readable:
            return
        try:
            results = self._run(readable, images)
        except Exception as error:
            if len(readable) > 1:  # one of them may be the reason: the others get their answers
                for job in readable:
                    self._answer([job])
                return
            logger.warning("%s: a picture could not be processed: %s", self.name, reason_of(error))
            readable[0].future.set_exception(RefusalError(503, f"the model could not process it ({reason_of(error)})"))
            return
        for job, result in zip(readable, results, strict=True):
            job.future.set_result(result)

    def _run(self, jobs: Sequence[_Job], images: Sequence[Image.Image]) -> list[Any]:
        if jobs[0].answer is not None:
            return [jobs[0].answer(self.detector, images[0])]
        found = self.detector(list(images), self.batch_size)
        return [
            Detected(detections, image.width, image.height) for detections, image in zip(found, images, strict=True)
        ]
