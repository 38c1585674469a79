"""An annotated video: the frames' own times, the sound of the source, and a file that plays even if it is cut off."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from detr_lite.drawing.boxes import class_color, drawn_class_name, font_size
from detr_lite.drawing.fonts import draw_text, text_length
from detr_lite.structures import Detections
from detr_lite.video.reader import Frame, Video

COPIED_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
"""What an MP4 file can hold as it is; other sound is encoded as AAC."""


class VideoWriter:
    """An MP4 file with H.264.

    It is written in fragments, so that all but the last second can be played wherever it is cut off, and becomes an
    ordinary MP4 when it is closed.
    """

    def __init__(self, path: Path, video: Video) -> None:
        import av

        self.path = path
        self.video = video
        # A fragment at each key frame, each on the disk at once.
        options = {"movflags": "hybrid_fragmented+frag_keyframe", "flush_packets": "1"}
        self.container = av.open(str(path), "w", format="mp4", options=options)
        self.stream: Any = None
        self.audio: Any = None
        self.resampler: Any = None
        if video.audio is not None:
            self._add_sound(video.audio)
        self.sound: list[Any] = []
        """Packets that came before the first frame, with which the file's header is written."""
        self.written = 0
        self.is_closed = False

    def add(self, image: Image.Image, pts: int) -> None:
        """A frame and its time in the video's `time_base`."""
        import av

        if self.stream is None:
            self._add_pictures(image)
            for packet in self.sound:
                self.add_sound(packet)
        picture = self._fit(image)
        frame = av.VideoFrame.from_image(picture)
        frame.pts, frame.time_base = pts, self.video.time_base
        for packet in self.stream.encode(frame):
            self.container.mux(packet)
        self.written += 1

    def add_sound(self, packet: Any) -> None:
        """A packet of the video's sound."""
        if self.audio is None:
            return
        if self.stream is None:
            self.sound.append(packet)
            return
        if self.resampler is None:
            packet.stream = self.audio
            self.container.mux(packet)
            return
        import av

        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            return  # a damaged moment of sound
        for frame in frames:
            for part in self.resampler.resample(frame):
                self.container.mux(self.audio.encode(part))

    def close(self) -> None:
        """Write what is still in the encoders, and the end of the file; a second call does nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        try:
            if self.stream is not None:
                self.container.mux(self.stream.encode(None))
                if self.resampler is not None:
                    self.container.mux(self.audio.encode(None))
        finally:
            self.container.close()

    def _add_pictures(self, image: Image.Image) -> None:
        width, height = (side + side % 2 for side in image.size)  # H.264 halves the resolution of colors
        self.stream = self.container.add_stream(
            "libx264", rate=self.video.rate, options={"crf": "20", "preset": "veryfast"}
        )
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"
        self.stream.codec_context.gop_size = max(1, round(self.video.rate))  # a key frame each second
        self.stream.time_base = self.stream.codec_context.time_base = _fine(self.video.time_base)

    def _add_sound(self, source: Any) -> None:
        import av

        if source.codec_context.name in COPIED_SOUND:
            self.audio = self.container.add_stream_from_template(source)
            return
        self.audio = self.container.add_stream("aac", rate=source.rate)
        self.resampler = av.AudioResampler(format="fltp", layout=source.layout.name, rate=source.rate)

    def _fit(self, image: Image.Image) -> Image.Image:
        """On a canvas of the video's size, which an image of another size is scaled to."""
        size = (self.stream.width, self.stream.height)
        if image.size == size:
            return image
        if image.width + image.width % 2 != size[0] or image.height + image.height % 2 != size[1]:
            return image.resize(size)  # the video changes its size on the way
        canvas = Image.new("RGB", size)
        canvas.paste(image)
        return canvas


def _fine(time_base: Fraction) -> Fraction:
    """A time base that FFmpeg's encoders accept: they refuse denominators above 2^31 and coarse ones lose times."""
    return time_base if time_base.denominator < 2**31 else Fraction(1, 90_000)


def draw_frame(frame: Frame, detections: Detections, ids: Sequence[int | None]) -> Image.Image:
    """A copy of the frame with boxes, classes, scores and, where objects are tracked, their ids. Its size never
    changes, as with the legends of pictures."""
    picture = frame.image.copy()
    pen = ImageDraw.Draw(picture)
    width, size = max(2, round(max(picture.size) / 400)), font_size(picture)
    rows = list(
        zip(detections.boxes_xyxy.tolist(), detections.scores.tolist(), detections.labels.tolist(), ids, strict=True)
    )
    for box, score, label, identity in reversed(rows):
        color = class_color(label if identity is None else identity)
        pen.rectangle(box, outline=color, width=width)
        name = drawn_class_name(label, detections.class_names)
        text = f"{name} {score:.2f}" if identity is None else f"{identity} {name} {score:.2f}"
        wide, high = text_length(text, size) + 6, round(1.3 * size)
        left = max(0, min(box[0], picture.width - wide))
        top = box[1] - high if box[1] >= high else box[1]
        pen.rectangle((left, top, left + wide, top + high), fill=color)
        draw_text(pen, (left + 3, top + 1), text, size, (20, 20, 20) if sum(color) > 380 else (255, 255, 255))
    return picture
