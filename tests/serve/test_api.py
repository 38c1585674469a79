"""The API of a running server: answers, refusals in one line of JSON, and its end."""

import io
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from detr_lite import Detector
from tests.helpers.photos import photo
from tests.helpers.served import Served, served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def best(finished_run: Path) -> Path:
    return finished_run / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def server(best: Path) -> Iterator[Served]:
    words = ("--checkpoint", best, best.with_name("last.ckpt"), "--max_megabytes", 1, "--max_megapixels", 1)
    with served(*words) as running:
        yield running


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def one_line(answer: object) -> str:
    assert isinstance(answer, dict)
    assert list(answer) == ["error"]
    assert "\n" not in answer["error"]
    return answer["error"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_answers_are_those_of_the_detector(server: Served, best: Path, kind: str) -> None:
    body = encoded(photo((90, 60)), kind)
    status, answer = server.ask("POST", "/v1/detect?threshold=0.02", body)
    assert status == 200
    expected = Detector.from_checkpoint(best, "cpu")(Image.open(io.BytesIO(body))).above(0.02)
    assert answer["image"] == {"width": 90, "height": 60}
    assert len(answer["annotations"]) == len(expected) > 0
    for row, box, score in zip(
        answer["annotations"], expected.boxes_xyxy.tolist(), expected.scores.tolist(), strict=True
    ):
        assert row["score"] == pytest.approx(score, abs=2e-4)
        left, top, width, height = row["bbox"]
        assert [left, top, left + width, top + height] == pytest.approx(box, abs=0.05)


def test_a_form_with_a_file_and_an_upright_picture(server: Served) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = encoded(photo((90, 60)), "JPEG", exif=exif)
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n' + picture + b"\r\n--x--\r\n"
    status, answer = server.ask("POST", "/v1/detect", form, {"Content-Type": "multipart/form-data; boundary=x"})
    assert (status, answer["image"]) == (200, {"width": 60, "height": 90})


def test_thresholds_and_models(server: Served) -> None:
    status, answer = server.ask("GET", "/v1/models")
    assert status == 200
    names = [model["name"] for model in answer["models"]]
    assert names == ["finished", "finished-last"]
    body = encoded(photo((90, 60)))
    counts = {}
    for threshold in ("0", "0.3", "1", "best"):
        status, found = server.ask("POST", f"/v1/detect?threshold={threshold}&model=finished-last", body)
        assert (status, found["model"]) == (200, "finished-last")
        counts[threshold] = len(found["annotations"])
    assert counts["0"] >= counts["0.3"] >= counts["1"] == 0
    assert counts["0"] > 0
    for query, part in (("threshold=2", "0 to 1"), ("threshold=nan", "0 to 1"), ("model=x", "finished, finished-last")):
        status, answer = server.ask("POST", f"/v1/detect?{query}", body)
        assert status == 422
        assert part in one_line(answer)


def test_the_explorer_of_a_picture(server: Served, finished_run: Path) -> None:
    status, page = server.ask("POST", "/v1/explain?name=%3Cb%3E.png", encoded(photo((90, 60))))
    assert status == 200
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert "<b>.png" not in page
    models = json.loads(page.split('id="metadata">')[1].split("</script>")[0])["models"]
    assert [model["name"] for model in models] == ["finished"]
    ap = json.loads((finished_run / "evaluation" / "metrics.json").read_text())["AP"]
    facts = [f"AP {ap:.3f}", "lite", "resnet10t", "1 + 2 layers", "2 heads", "dim 32"]
    assert models[0]["facts"][: len(facts)] == facts, "the best checkpoint's, to which the AP of its run belongs"
    page = server.ask("POST", "/v1/explain?model=finished-last", encoded(photo((90, 60))))[1]
    (last,) = json.loads(page.split('id="metadata">')[1].split("</script>")[0])["models"]
    assert (last["name"], last["facts"][0]) == ("finished-last", "lite")
    status, answer = server.ask("POST", "/v1/explain?link=1", encoded(photo((90, 60))))
    assert status == 200
    assert server.ask("GET", answer["url"])[1].lower().startswith("<!doctype html>")
    assert server.ask("GET", "/explorer/unknown")[0] == 404


@pytest.mark.parametrize(
    ("status", "part", "body"),
    [
        (422, "no body", b""),
        (422, "not a picture", b"no picture"),
        (422, "not a picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        (422, "not a picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        (422, "not readable", encoded(photo((300, 300)))[:5000]),
        (422, "not a picture", encoded(photo((300, 300)))[:20]),
        (413, "1600 x 1000 pixels", encoded(Image.new("1", (1600, 1000)))),
        (413, "larger than 1 MB", bytes(1_100_000)),
    ],
    ids=["empty", "text", "program", "svg", "cut off", "header", "many pixels", "many bytes"],
)
def test_what_is_no_picture_is_refused_and_does_not_disturb(
    server: Served, status: int, part: str, body: bytes
) -> None:
    found, answer = server.ask("POST", "/v1/detect", body)
    assert found == status
    assert part in one_line(answer)
    assert server.ask("POST", "/v1/detect", encoded(photo((40, 40))))[0] == 200


def test_chunks_without_a_length_are_counted(server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        part = b"%x\r\n" % 100_000 + bytes(100_000) + b"\r\n"
        try:
            for _ in range(15):
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has closed the connection already
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_paths_methods_and_forms_that_are_none(server: Served) -> None:
    for method, path, status in (
        ("GET", "/v1/detect", 405),
        ("GET", "/missing", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/other.css", 404),
        ("DELETE", "/", 405),
    ):
        found, answer = server.ask(method, path)
        assert found == status, path
        one_line(answer)
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    for form in (
        b"",
        b"--x--\r\n",
        b"no form",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
    ):
        found, answer = server.ask("POST", "/v1/detect", form, kind)
        assert found == 422, form
        one_line(answer)


def test_other_names_for_this_machine_are_refused(server: Served) -> None:
    """A page of another site whose name was made to point at 127.0.0.1."""
    for host, status in (("evil.example", 403), ("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:8000", 200)):
        assert server.ask("GET", "/v1/models", headers={"Host": host})[0] == status, host


def test_the_page_its_files_and_the_description(server: Served) -> None:
    for path in ("/", "/serve.css", "/serve.js", "/theme.css", "/docs"):
        status, text = server.ask("GET", path)
        assert status == 200
        assert len(text) > 200
    status, document = server.ask("GET", "/v1/openapi.json")
    assert status == 200
    assert {"/v1/detect", "/v1/explain", "/v1/models", "/health"} == set(document["paths"])


@pytest.mark.stress
def test_a_token_is_needed_where_there_is_one(best: Path) -> None:
    with served("--checkpoint", best, "--token", "secret-token") as running:
        assert running.ask("GET", "/")[0] == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret-token"}):
            status, answer = running.ask("GET", "/v1/models", headers=headers)
            assert status == 401
            assert "Authorization: Bearer TOKEN" in one_line(answer)
        assert running.ask("GET", "/v1/models", headers={"Authorization": "Bearer secret-token"})[0] == 200


@pytest.mark.stress
def test_requests_beyond_the_limit_are_told_to_wait(best: Path) -> None:
    """All are answered, and those that are refused at once."""
    body = encoded(photo((300, 200)))
    with served("--checkpoint", best, "--max_waiting", 2, "--batch_size", 1) as running:
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(running.ask("POST", "/v1/explain", body)[0]))
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200, 429}
    assert len(statuses) == 12


@pytest.mark.stress
def test_a_request_that_does_not_arrive(best: Path) -> None:
    with served("--checkpoint", best, "--max_seconds", 0.5) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
            connection.sendall(b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nab")
            assert connection.recv(1000).startswith(b"HTTP/1.1 408")
        assert running.ask("GET", "/health")[1]["waiting"] == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.stress
def test_it_stops_within_five_seconds_and_finishes_what_runs(best: Path, signum: int) -> None:
    body = encoded(photo((300, 200)))
    with served("--checkpoint", best, "--batch_size", 1) as running:
        assert running.ask("POST", "/v1/detect", body)[0] == 200
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(running.ask("POST", "/v1/explain", body)[0]))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 60
        while not statuses:  # one is answered, so that the model is at the next
            assert time.monotonic() < end
            time.sleep(0.005)
        running.process.send_signal(signum)
        assert running.process.wait(30) in (0, -signum, 128 + signum)
        for thread in threads:
            thread.join()
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 2


def test_wrong_words(best: Path, refusal: Callable[..., str], tmp_path: Path) -> None:
    words = ("serve", "--checkpoint", best)
    assert "needs a secret that they know: give --token" in refusal(*words, "--host", "0.0.0.0")
    assert "8 to 200" in refusal(*words, "--token", "short")
    assert "--max_waiting is 0" in refusal(*words, "--max_waiting", 0)
    assert "--port is 70000" in refusal(*words, "--port", 70_000)
    assert "no-such-address" in refusal(*words, "--host", "no-such-address", "--token", "long-enough")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--port {port} cannot be used" in refusal(*words, "--port", port)
    assert "missing.ckpt" in refusal("serve", "--checkpoint", tmp_path / "missing.ckpt", "--port", 0)


@pytest.mark.stress
def test_a_thousand_requests_of_32_clients(best: Path) -> None:
    body = encoded(photo((320, 240)), "JPEG")
    with served("--checkpoint", best) as running:
        running.ask("POST", "/v1/detect", body)
        memory = [_resident(running)]
        statuses: list[int] = []
        seconds: list[float] = []

        def client(count: int) -> None:
            for _ in range(count):
                start = time.monotonic()
                statuses.append(running.ask("POST", "/v1/detect", body)[0])
                seconds.append(time.monotonic() - start)

        for _ in range(2):
            threads = [threading.Thread(target=client, args=(16,)) for _ in range(32)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            memory.append(_resident(running))
    assert len(statuses) == 1024
    assert set(statuses) <= {200, 429}
    print(json.dumps({"p95": sorted(seconds)[972], "429": statuses.count(429), "MB": memory}))
    assert memory[2] - memory[1] < 50  # flat: the first half has allocated what there is


@pytest.mark.stress
def test_ten_thousand_malformed_requests(server: Served) -> None:
    good = encoded(photo((60, 40)), "JPEG")
    statuses: list[int] = []

    def client(number: int) -> None:
        for index in range(1250):
            cut = (number * 1250 + index) * 7919 % len(good)
            body = [good[:cut], good[:cut] + b"\xff" * 20 + good[cut:], good[cut:], b"\0" * cut][index % 4]
            kind = ["image/jpeg", "multipart/form-data; boundary=x", "multipart/form-data", "\x01text"][index // 4 % 4]
            path = ["/v1/detect", "/v1/detect?threshold=%00", "/v1/explain", "/v1/x%0a"][index // 16 % 4]
            statuses.append(server.ask("POST", path, body, {"Content-Type": kind})[0])

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 10_000
    assert not [status for status in statuses if status >= 500], set(statuses)
    assert server.ask("POST", "/v1/detect", good)[0] == 200


def _resident(running: Served) -> float:
    """MB."""
    for line in Path(f"/proc/{running.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1e3
    raise AssertionError
