"""`detr-lite predict` on videos, cameras and streams: an annotated video, and a line of JSON for each frame."""

import contextlib
import errno
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detr_lite.cli.score_threshold import ScoreThreshold
from detr_lite.detector import Detector
from detr_lite.errors import DetrLiteError
from detr_lite.structures import Detections
from detr_lite.text import printable, unique_names
from detr_lite.video.reader import Frame, Video, is_live, require_av
from detr_lite.video.tracking import Tracker, require_trackers
from detr_lite.video.writer import VideoWriter, draw_frame

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file system takes no larger file",  # FAT: 4 GB
}
"""What to say of errors after which a video is cut off but plays."""


@dataclass(frozen=True)
class VideoOptions:
    """How videos are looked at."""

    every: int = 1
    """Detect in every Nth frame; those between show the same boxes."""
    track: bool = False
    """Give each object an id that it keeps from frame to frame."""

    def check(self) -> None:
        """Errors: a number that is out of range, and a package of the extra that is not installed."""
        if self.every < 1:
            raise DetrLiteError(f"--every is {self.every}; it must be at least 1")
        require_av()
        if self.track:
            require_trackers()


def predict_videos(
    detector: Detector, sources: Sequence[str], output: Path, least: ScoreThreshold, options: VideoOptions
) -> None:
    """Write NAME.mp4 and NAME.jsonl for each source, and print a line for each.

    Errors: a source that cannot be opened, before the next one is begun; a full disk.
    """
    for source, name in zip(sources, video_names(sources), strict=True):
        with Video(source) as video:
            _Prediction(detector, video, output / name, least, options).run()


def video_names(sources: Sequence[str]) -> list[str]:
    """The name of each source's results, without a suffix; equal ones get a number."""
    names = (
        f"camera-{source}" if source.isdecimal() else "stream" if is_live(source) else Path(source).stem
        for source in sources
    )
    return unique_names(names, ignore_case=True)  # as some file systems do


class _Prediction:
    """One video from its first frame to its last, or to Ctrl-C."""

    def __init__(
        self, detector: Detector, video: Video, path: Path, least: ScoreThreshold, options: VideoOptions
    ) -> None:
        self.detector = detector
        self.video = video
        self.path = path
        self.least = least
        self.options = options
        self.tracker = Tracker(least.overall, float(video.rate) / options.every) if options.track else None
        self.found: tuple[Detections, list[int | None]] | None = None
        self.frames = self.objects = 0

    def run(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        mp4, lines = self.path.with_name(self.path.name + ".mp4"), self.path.with_name(self.path.name + ".jsonl")
        start = time.monotonic()
        stopped = False
        writer = VideoWriter(mp4, self.video)
        try:
            with lines.open("w", encoding="utf-8") as file:
                bar = tqdm(
                    self.video.frames(writer.add_sound),
                    desc=printable(self.video.source),
                    total=self.video.count,
                    unit="frame",
                    leave=False,
                    disable=None,
                )
                with bar:
                    for frame in bar:
                        line = json.dumps(self._line(frame)) + "\n"
                        detections, ids = self._current()
                        writer.add(draw_frame(frame, detections, ids), frame.pts)
                        file.write(line)
                        file.flush()  # so that a stream's results can be read while it runs
                        self.frames += 1
        except KeyboardInterrupt:
            stopped = True
        except OSError as error:
            if error.errno in FULL:
                raise DetrLiteError(
                    f"{mp4}: {FULL[error.errno]} after {self.frames:,} frames, which can be played; make room, or give "
                    "--output on another disk"
                ) from error
            raise
        except DetrLiteError:  # a stream that has ended, a file that cannot be read on
            if self.frames:
                self._close(writer)
                self._report(mp4, time.monotonic() - start)
            raise
        finally:
            self._close(writer)
        if not self.frames and not stopped:
            for path in (mp4, lines):
                path.unlink(missing_ok=True)
            raise DetrLiteError(f"{printable(self.video.source)}: no frame can be decoded; the video is damaged")
        self._report(mp4, time.monotonic() - start)
        if stopped:
            raise KeyboardInterrupt

    def _line(self, frame: Frame) -> dict[str, Any]:
        is_new = self.found is None or frame.number % self.options.every == 0
        if is_new:
            self.found = self._detect(frame)
        detections, ids = self._current()
        rows = []
        for box, score, label, identity in zip(
            detections.boxes_xyxy.tolist(), detections.scores.tolist(), detections.labels.tolist(), ids, strict=True
        ):
            category, (left, top, right, bottom) = self.detector.categories[label], box
            bbox = [round(value, 2) for value in (left, top, right - left, bottom - top)]
            row = {"category_id": category.id, "category_name": category.name, "bbox": bbox, "score": round(score, 5)}
            rows.append(row if self.tracker is None else {**row, "track_id": identity})
        self.objects += len(rows)
        line = {"frame": frame.number, "seconds": round(frame.seconds, 6), "detections": rows}
        return line if self.options.every == 1 else {**line, "is_detected": is_new}

    def _detect(self, frame: Frame) -> tuple[Detections, list[int | None]]:
        detections = self.detector(frame.image)
        if self.tracker is not None:
            return self.tracker.update(detections)
        kept = detections.above(self.least.scores)
        return kept, [None] * len(kept)

    def _current(self) -> tuple[Detections, list[int | None]]:
        assert self.found is not None
        return self.found

    def _close(self, writer: VideoWriter) -> None:
        with contextlib.suppress(OSError, ValueError):  # a full disk: what was written before plays
            writer.close()

    def _report(self, mp4: Path, seconds: float) -> None:
        damaged = f", {self.video.damaged:,} damaged frames left out or repaired" if self.video.damaged else ""
        print(
            f"wrote {mp4} and {mp4.with_suffix('.jsonl').name}: {self.frames:,} frames with {self.objects:,} "
            f"detections ({self.least.summary}){damaged}, {self.frames / max(seconds, 1e-6):.1f} frames a second"
        )
