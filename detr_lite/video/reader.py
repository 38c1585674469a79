"""Frames of a video, a camera or a network stream, upright and with their times, by PyAV (FFmpeg)."""

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from detr_lite.errors import DetrLiteError
from detr_lite.text import printable, reason_of

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".ts", ".wmv", ".flv"),
    *(".3gp", ".ogv"),
)
"""Of files that are videos, in lower or upper case."""
STREAM = re.compile(r"(rtsp|rtsps|rtmp|rtmps|srt|udp)://")
MOST_FAULTS = 100
"""Places in a row at which a damaged video cannot be read, before it is given up."""
OPEN_SECONDS, READ_SECONDS = 15.0, 15.0
"""Without an answer of a stream."""


@dataclass(frozen=True)
class Frame:
    """One picture of a video."""

    number: int
    """From 0, of those that could be decoded."""
    seconds: float
    """From the beginning of the video."""
    pts: int
    """The same in `Video.time_base`, always rising."""
    image: Image.Image
    """Upright, RGB."""


def is_video(source: str) -> bool:
    """Whether a source is a video's file, a camera (a number) or a stream, rather than pictures."""
    return is_live(source) or Path(source).suffix.lower() in SUFFIXES


def is_live(source: str) -> bool:
    """Whether it ends only when it is stopped: a camera's number or a stream's address."""
    return source.isdecimal() or STREAM.match(source) is not None


def require_av() -> None:
    """Errors: PyAV is not installed."""
    if importlib.util.find_spec("av") is None:
        raise DetrLiteError(
            "av (PyAV) is not installed, which videos need; install it with: pip install 'detr_lite[video]', or in a "
            "checkout with: pip install -e '.[video]'"
        )


class Video:
    """An open video, camera or stream.

        with Video("clip.mp4") as video:
            for frame in video.frames():
                ...

    Args:
        source: a file, a camera's number such as "0", or a stream's address such as "rtsp://...".

    Errors: PyAV is not installed, a missing file, one without pictures, a camera or stream that does not answer.
    """

    def __init__(self, source: str) -> None:
        require_av()
        self.source = source
        self.is_live = is_live(source)
        self.damaged = 0
        """Frames that could not be decoded, or only in part."""
        self.container = _open(source)
        if not self.container.streams.video:
            self.container.close()
            raise DetrLiteError(f"{printable(source)}: has no pictures, only sound; give a video")
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "AUTO"
        self.audio = self.container.streams.audio[0] if self.container.streams.audio and not self.is_live else None
        self.time_base: Fraction = self.stream.time_base or Fraction(1, 90_000)
        self.rate: Fraction = self.stream.average_rate or self.stream.guessed_rate or Fraction(30)
        """Frames a second, the mean of a video whose rate varies."""
        self.count: int | None = self.stream.frames or self._estimate()

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def frames(self, on_sound: Callable[[Any], None] | None = None) -> Iterator[Frame]:
        """All frames that can be decoded, in order.

        Args:
            on_sound: gets the packets of the video's sound, between the frames where they belong.
        """
        number, last = 0, -1
        first: int | None = None
        streams = [self.stream] if self.audio is None or on_sound is None else [self.stream, self.audio]
        for packet in self._packets(streams):
            if packet.stream.type == "audio":
                assert on_sound is not None
                if packet.dts is not None:
                    on_sound(packet)
                continue
            for frame in self._decode(packet):
                pts = frame.pts if frame.pts is not None else last + self._step()
                if first is None:
                    first = pts
                if pts <= last:  # of a damaged file; an encoder takes rising times alone
                    pts = last + 1
                last = pts
                yield Frame(number, float((pts - first) * self.time_base), pts, upright(frame))
                number += 1

    def _packets(self, streams: list[Any]) -> Iterator[Any]:
        import av

        packets, faults = self.container.demux(streams), 0
        while True:
            try:
                packet = next(packets, None)
            except av.error.InvalidDataError:
                self.damaged += 1
                faults += 1
                if faults == MOST_FAULTS:
                    return  # what follows cannot be found
                packets = self.container.demux(streams)  # from where the fault was
                continue
            except (av.error.FFmpegError, OSError) as error:
                if not self.is_live:
                    raise DetrLiteError(f"{printable(self.source)}: cannot be read on ({reason_of(error)})") from error
                is_silent = isinstance(error, av.error.ExitError)  # of PyAV's own time limit
                reason = f"nothing came for {READ_SECONDS:g} s" if is_silent else reason_of(error)
                raise DetrLiteError(f"{printable(self.source)}: the stream has ended ({reason})") from error
            if packet is None:
                return
            faults = 0
            yield packet

    def _decode(self, packet: Any) -> list[Any]:
        import av

        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            self.damaged += packet.size > 0
            return []
        self.damaged += sum(frame.is_corrupt for frame in frames)
        return list(frames)

    def _step(self) -> int:
        return max(1, round(1 / (self.rate * self.time_base)))

    def _estimate(self) -> int | None:
        duration = self.container.duration  # in millionths of a second
        return round(duration / 1e6 * self.rate) if duration and not self.is_live else None


def upright(frame: Any) -> Image.Image:
    """A decoded frame as RGB, turned as players turn it by the video's rotation tag."""
    image: Image.Image = frame.to_image()
    turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    turn = turns.get(frame.rotation % 360)
    return image if turn is None else image.transpose(turn)


def _open(source: str) -> Any:
    import av

    name, format, options = source, None, {}
    if source.isdecimal():
        name, format = _camera(int(source))
    elif STREAM.match(source):
        options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
    elif not Path(source).is_file():
        raise DetrLiteError(f"--source {printable(source)}: no such file")
    try:
        timeout = (OPEN_SECONDS, READ_SECONDS) if is_live(source) else None
        return av.open(name, format=format, options=options, timeout=timeout, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        what = "camera" if source.isdecimal() else "stream" if STREAM.match(source) else "video"
        raise DetrLiteError(f"{printable(source)}: cannot be opened as a {what} ({reason_of(error)})") from error


def _camera(number: int) -> tuple[str, str]:
    """FFmpeg's name of a camera, and of the system's interface to it."""
    if sys.platform == "darwin":
        return f"{number}:none", "avfoundation"
    if sys.platform == "win32":
        raise DetrLiteError(
            f"--source {number}: cameras have names instead of numbers on Windows; give a stream's address instead"
        )
    path = Path(f"/dev/video{number}")
    if not path.exists():
        raise DetrLiteError(f"--source {number}: there is no camera {path}")
    return str(path), "v4l2"
