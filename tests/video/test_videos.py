"""Videos frame by frame: boxes, times, sound, turned and damaged ones, tracking, and wrong words."""

import json
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from detr_lite.structures import Detections, DetrLiteError
from detr_lite.video import reader
from detr_lite.video.find import find_videos
from detr_lite.video.reader import Video
from detr_lite.video.tracking import Tracker
from detr_lite.video.writer import VideoWriter, draw_frame
from tests.helpers.waiting import PATIENCE, wait_for

av = pytest.importorskip("av")
pytestmark = pytest.mark.slow

PROJECT = Path(__file__).resolve().parents[2]


def scene(number: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A red square that moves two pixels a frame, on gray."""
    image = Image.new("RGB", size, (90, 90, 90))
    ImageDraw.Draw(image).rectangle((2 * number, 20, 2 * number + 20, 40), fill=(220, 30, 30))
    return image


def make_video(
    path: Path, times: Iterable[int], size: tuple[int, int] = (96, 64), sound: str | None = None, **metadata: str
) -> Path:
    """Frames at these times, in thousandths of a second, with a tone if there is a codec for it."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "1", "g": "5"})
        video.width, video.height, video.pix_fmt = *size, "yuv444p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        for name, value in metadata.items():
            video.metadata[name] = value
        audio = container.add_stream(sound, rate=16_000, layout="mono") if sound else None
        times = list(times)
        for number, moment in enumerate(times):
            frame = av.VideoFrame.from_image(scene(number, size))
            frame.pts, frame.time_base = moment, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            tone = (8000 * np.sin(np.arange(16 * times[-1]) / 10)).astype(np.int16)[None]
            for start in range(0, tone.shape[1], 1024):
                part = av.AudioFrame.from_ndarray(np.ascontiguousarray(tone[:, start : start + 1024]), "s16", "mono")
                part.sample_rate, part.pts, part.time_base = 16_000, start, Fraction(1, 16_000)
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return path


def copy_with_boxes(source: Path, target: Path) -> None:
    """Each frame with a box around its square."""
    with Video(str(source)) as video:
        writer = VideoWriter(target, video)
        for frame in video.frames(writer.add_sound):
            writer.add(draw_frame(frame, square_of(frame.image), [None]), frame.pts)
        writer.close()


def square_of(image: Image.Image) -> Detections:
    """What a perfect detector finds."""
    pixels = np.asarray(image).astype(int)
    y, x = np.nonzero((pixels[..., 0] > 150) & (pixels[..., 1] < 100))
    box = [[x.min(), y.min(), x.max(), y.max()]] if len(x) else np.zeros((0, 4))
    boxes = torch.tensor(np.array(box), dtype=torch.float32)
    return Detections(
        boxes,
        torch.full((len(boxes),), 0.9),
        torch.zeros(len(boxes)).long(),
        torch.zeros(len(boxes)).long(),
        ("square",),
    )


def read(path: Path) -> tuple[list[float], list[Image.Image]]:
    with Video(str(path)) as video:
        frames = list(video.frames())
    return [frame.seconds for frame in frames], [frame.image for frame in frames]


def test_each_frame_has_its_own_picture_and_time(tmp_path: Path) -> None:
    """Also of a video whose rate varies."""
    times = [0, 40, 80, 200, 240, 500, 510, 900]
    seconds, images = read(make_video(tmp_path / "a.mp4", times))
    assert seconds == pytest.approx([moment / 1000 for moment in times])
    for number, image in enumerate(images):
        assert square_of(image).boxes_xyxy[0].tolist() == pytest.approx([2 * number, 20, 2 * number + 20, 40], abs=1)


@pytest.mark.parametrize("size", [(96, 64), (95, 63)])
@pytest.mark.parametrize("sound", [None, "aac", "pcm_s16le"])
def test_times_and_sound_are_kept(tmp_path: Path, sound: str | None, size: tuple[int, int]) -> None:
    times = [0, 40, 80, 200, 240, 500, 510, 900]
    source = make_video(tmp_path / ("a.mkv" if sound == "pcm_s16le" else "a.mp4"), times, size, sound)
    copy_with_boxes(source, tmp_path / "b.mp4")
    seconds, images = read(tmp_path / "b.mp4")
    assert seconds == pytest.approx([moment / 1000 for moment in times], abs=2e-3)
    assert images[0].size == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert len(container.streams.audio) == (sound is not None)
        if sound is not None:
            samples = [frame.samples for frame in container.decode(audio=0)]
            assert sum(samples) / 16_000 == pytest.approx(0.9, abs=0.15)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_the_rotation_tag_is_obeyed(tmp_path: Path, degrees: int) -> None:
    source = make_video(tmp_path / "a.mp4", [0, 40, 80])
    turned = tmp_path / "turned.mp4"
    with av.open(str(source)) as given, av.open(str(turned), "w") as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        if not hasattr(stream, "set_display_rotation") and not hasattr(stream, "side_data"):
            pytest.skip("this version of PyAV writes no rotation")
        _tag(stream, degrees)
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    _, plain = read(source)
    with Video(str(turned)) as video:
        frames = list(video.frames())
    if frames[0].image.size == plain[0].size and degrees != 180:
        pytest.skip("the tag was not written")
    expected = plain[0].rotate(degrees, expand=True)
    difference = np.abs(np.asarray(frames[0].image).astype(int) - np.asarray(expected).astype(int))
    assert difference.mean() < 3


def _tag(stream: Any, degrees: int) -> None:
    if hasattr(stream, "set_display_rotation"):
        stream.set_display_rotation(degrees)


def test_damaged_frames_are_counted_and_the_others_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (240, 320, 3), dtype=np.uint8)  # so that frames take some thousand bytes each
    monkeypatch.setattr(sys.modules[__name__], "scene", lambda number, size: Image.fromarray(np.roll(noise, number)))
    source = make_video(tmp_path / "a.mkv", range(0, 2000, 40), (320, 240))
    data = bytearray(source.read_bytes())
    for start in range(len(data) // 2, len(data) // 2 + 600):
        data[start] ^= 0x5A
    source.write_bytes(data)
    with Video(str(source)) as video:
        frames = list(video.frames())
    assert 25 <= len(frames) <= 50
    assert video.damaged > 0
    assert [frame.pts for frame in frames] == sorted({frame.pts for frame in frames})


def test_a_video_that_is_cut_off_plays(tmp_path: Path) -> None:
    """As by a full disk or a kill: nothing was closed."""
    source = make_video(tmp_path / "a.mp4", range(0, 20_000, 40))
    with Video(str(source)) as video:
        writer = VideoWriter(tmp_path / "b.mp4", video)
        for frame in video.frames():
            writer.add(frame.image, frame.pts)
        (tmp_path / "cut.mp4").write_bytes((tmp_path / "b.mp4").read_bytes())
        writer.close()
    assert len(read(tmp_path / "cut.mp4")[1]) > 200
    assert len(read(tmp_path / "b.mp4")[1]) == 500


def test_ids_hold_through_a_gap(tmp_path: Path) -> None:
    pytest.importorskip("trackers")
    tracker = Tracker(threshold=0.5, rate=25.0)
    ids = []
    for number in range(40):
        detections = square_of(scene(number))
        if 15 <= number < 25:
            detections = detections[:0]
        ids += tracker.update(detections)[1]
    assert len(ids) == 30
    assert len({*ids} - {None}) == 1


def predict(run_tool: Callable[..., Any], best: Path, *words: object) -> Any:
    ended = run_tool("predict", "--checkpoint", best, *words)
    assert ended.code == 0, ended
    return ended


@pytest.fixture(scope="module")
def best(finished_run: Path) -> Path:
    return finished_run / "checkpoints" / "best.ckpt"


def test_the_command(best: Path, run_tool: Callable[..., Any], tmp_path: Path) -> None:
    source = make_video(tmp_path / "videos/a.mp4", range(0, 400, 40)) if (tmp_path / "videos").mkdir() is None else None
    assert source is not None
    ended = predict(run_tool, best, "--source", tmp_path / "videos", "--output", tmp_path / "out", "--every", 3)
    assert "10 frames" in ended.out
    assert "frames a second" in ended.out
    lines = [json.loads(line) for line in (tmp_path / "out/a.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(10))
    assert [line["seconds"] for line in lines] == pytest.approx([0.04 * number for number in range(10)])
    assert [line["is_detected"] for line in lines] == [number % 3 == 0 for number in range(10)]
    assert lines[1]["detections"] == lines[0]["detections"]
    assert len(read(tmp_path / "out/a.mp4")[1]) == 10


def test_the_lines_are_what_the_detector_says(best: Path, run_tool: Callable[..., Any], tmp_path: Path) -> None:
    from detr_lite import Detector

    source = make_video(tmp_path / "a.mkv", range(0, 200, 40))
    predict(run_tool, best, "--source", source, "--output", tmp_path / "out", "--threshold", 0.05, "--track")
    detector = Detector.from_checkpoint(best, "cpu")
    with Video(str(source)) as video:
        for frame, line in zip(video.frames(), (tmp_path / "out/a.jsonl").read_text().splitlines(), strict=True):
            expected = [round(score, 5) for score in detector(frame.image).above(0.05).scores.tolist()]
            found = [row["score"] for row in json.loads(line)["detections"]]
            assert set(expected) <= set(found)
            assert all("track_id" in row for row in json.loads(line)["detections"])


@pytest.mark.stress
def test_ctrl_c_leaves_a_video_that_plays(best: Path, tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", range(0, 400_000, 40))
    words = ["--checkpoint", best, "--source", source, "--output", tmp_path / "out", "--device", "cpu"]
    command = [sys.executable, PROJECT / "tools/predict.py", *words]
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background it may be ignored
    )
    lines = tmp_path / "out/a.jsonl"
    wait_for(lambda: lines.exists() and lines.read_text().count("\n") > 20, PATIENCE)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "frames a second" in out
    count = lines.read_text().count("\n")
    assert count > 20
    assert len(read(tmp_path / "out/a.mp4")[1]) in (count, count + 1)


@pytest.mark.stress
def test_a_full_disk_leaves_a_video_that_plays(best: Path, tmp_path: Path) -> None:
    def allow_small_files() -> None:  # as a disk that is nearly full, with another number of the error
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    source = make_video(tmp_path / "a.mp4", range(0, 40_000, 40))
    words = ["--checkpoint", best, "--source", source, "--output", tmp_path / "out", "--device", "cpu"]
    command = list(map(str, [sys.executable, "-B", PROJECT / "tools/predict.py", *words]))
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=allow_small_files, timeout=PATIENCE)
    assert done.returncode == 2
    assert "the file system takes no larger file after" in done.stderr
    assert 25 <= len(read(tmp_path / "out/a.mp4")[1]) < 1000


@pytest.mark.stress
def test_a_stream_that_ends(
    best: Path, run_tool: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before is kept, and said."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(reader, "READ_SECONDS", 3.0)
    lines, is_enough = tmp_path / "out/stream.jsonl", threading.Event()
    sender = threading.Thread(target=send_stream, args=(address, is_enough, lines))
    sender.start()
    words = ("--checkpoint", best, "--source", address, "--output", tmp_path / "out", "--device", "cpu")
    try:
        ended = run_tool("predict", *words)
    finally:
        is_enough.set()
        sender.join()
    assert ended.code == 2
    assert "the stream has ended (nothing came for 3 s)" in ended.err
    assert "frames a second" in ended.out
    count = lines.read_text().count("\n")
    assert count > 20
    assert len(read(tmp_path / "out/stream.mp4")[1]) == count


def send_stream(address: str, is_enough: threading.Event, lines: Path) -> None:
    """Frames in real time, until enough of them have been answered."""
    with av.open(f"{address}?pkt_size=1316", "w", format="mpegts") as container:
        video = container.add_stream("libx264", rate=25, options={"g": "5", "tune": "zerolatency"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        number = 0
        while not is_enough.wait(0.04) and not (lines.exists() and lines.read_text().count("\n") > 20):
            frame = av.VideoFrame.from_image(scene(number % 30))
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
            number += 1


def test_a_video_without_a_frame_that_can_be_decoded(best: Path, refusal: Callable[..., str], tmp_path: Path) -> None:
    """Its header is whole; nothing is left that looks like a result."""
    source = make_video(tmp_path / "a.mp4", range(0, 400, 40))
    data = bytearray(source.read_bytes())
    first, last = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[first:last] = bytes(last - first)
    source.write_bytes(data)
    words = ("predict", "--checkpoint", best, "--source", source, "--output", tmp_path / "out")
    assert "no frame can be decoded" in refusal(*words)
    assert not list((tmp_path / "out").iterdir())


def test_wrong_words(best: Path, refusal: Callable[..., str], tmp_path: Path) -> None:
    words = ("predict", "--checkpoint", best, "--output", tmp_path / "out", "--source")
    video = make_video(tmp_path / "a.mp4", [0, 40])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    assert "cannot be opened as a video" in refusal(*words, tmp_path / "text.mp4")
    assert "no such file" in refusal(*words, tmp_path / "missing.mp4")
    assert "there is no camera" in refusal(*words, "63") or sys.platform != "linux"
    assert "nor has it videos" in refusal(*words, tmp_path / "empty")
    assert "is for images" in refusal(*words, video, "--format", "csv")
    assert "--every is 0" in refusal(*words, video, "--every", 0)
    scene(0).save(tmp_path / "a.png")
    assert "need calls of their own" in refusal(*words, video, tmp_path / "a.png")
    assert "are for videos" in refusal(*words, tmp_path / "a.png", "--track")
    assert "cannot be opened as a stream" in refusal(*words, "rtsp://127.0.0.1:1/x")


def test_a_folder_of_pictures_stays_one(tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    scene(0).save(tmp_path / "both/a.png")
    make_video(tmp_path / "both/a.mp4", [0, 40])
    assert find_videos([str(tmp_path / "both")], tmp_path / "out") == []
    with pytest.raises(DetrLiteError, match="only sound"), Video(str(_sound(tmp_path / "a.mp4"))):
        pass


def _sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), "s16", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
