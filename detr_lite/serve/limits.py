"""What a request may cost, and the answer to one that would cost more."""

import asyncio
import io
import warnings
from dataclasses import dataclass

from PIL import Image
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Of pictures that are decoded: those whose decoders execute nothing and open no other file."""


@dataclass(frozen=True)
class Limits:
    """What one request, and all requests together, may take."""

    megabytes: float = 20.0
    """Of a request's body."""
    megapixels: float = 50.0
    """Of a picture."""
    waiting: int = 64
    """Requests that are accepted and not yet answered."""
    seconds: float = 30.0
    """Until a request has been sent, and again until it is answered."""


class RefusalError(Exception):
    """A request that gets no detections: the HTTP status, and one line that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_picture(request: Request, limits: Limits) -> bytes:
    """The picture in a request: its whole body, or the first file of a form.

    Raises `RefusalError`: 408 for a body that comes too slowly, 413 for one that is too large, 422 for one without a
    picture.
    """
    try:
        async with asyncio.timeout(limits.seconds):
            if request.headers.get("content-type", "").startswith("multipart/form-data"):
                return await _read_form(request, limits)
            return await _read_body(request, limits)
    except TimeoutError as error:
        raise RefusalError(408, f"the request did not arrive within {limits.seconds:g} seconds") from error
    except ClientDisconnect as error:
        raise RefusalError(400, "the client has closed the connection") from error


async def _read_body(request: Request, limits: Limits) -> bytes:
    most = int(1e6 * limits.megabytes)
    _refuse_large(_stated_length(request), limits)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            _refuse_large(len(body), limits)
    return bytes(body)


async def _read_form(request: Request, limits: Limits) -> bytes:
    most = int(1e6 * limits.megabytes)
    _refuse_large(_stated_length(request), limits)
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await original()
        received += len(message.get("body", b""))
        if received > most + 10_000:  # of the form around the picture
            _refuse_large(received, limits)
        return message

    original = request._receive
    request._receive = receive
    try:
        async with request.form(max_files=1, max_fields=10, max_part_size=10_000) as form:
            for value in form.values():
                if isinstance(value, UploadFile):
                    return await value.read()
    except RefusalError:
        raise
    except Exception as error:  # of the parser, for anything that is no form
        raise RefusalError(422, "the form cannot be read; send one file as multipart/form-data") from error
    raise RefusalError(422, "the form has no file; send the picture as one")


def _stated_length(request: Request) -> int:
    text = request.headers.get("content-length", "0")
    return int(text) if text.isdecimal() and len(text) < 20 else 0


def _refuse_large(size: int, limits: Limits) -> None:
    if size > 1e6 * limits.megabytes + 10_000:
        raise RefusalError(413, f"the request is larger than {limits.megabytes:g} MB")


def open_picture(data: bytes, limits: Limits) -> Image.Image:
    """A picture whose header has been read, and nothing else yet.

    Raises `RefusalError`: 413 for too many pixels, 422 for what is no picture.
    """
    if not data:
        raise RefusalError(422, "the request has no body; send the bytes of a picture")
    try:
        with warnings.catch_warnings(action="ignore"):
            Image.init()
            image = Image.open(io.BytesIO(data), formats=[each for each in FORMATS if each in Image.OPEN])
    except Image.DecompressionBombError as error:
        raise RefusalError(413, f"the picture has more than {limits.megapixels:g} million pixels") from error
    except Exception as error:  # damaged headers raise many types
        raise RefusalError(422, "the body is not a picture that can be read") from error
    if image.width * image.height > 1e6 * limits.megapixels:
        raise RefusalError(
            413, f"the picture has {image.width} x {image.height} pixels, more than {limits.megapixels:g} million"
        )
    return image
