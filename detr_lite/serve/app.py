"""The HTTP application: a page, an API, and who may use them."""

import asyncio
import hmac
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from importlib.resources import files
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detr_lite.detector import Detector
from detr_lite.serve.answers import detections_json, model_facts, overall_threshold, parse_threshold
from detr_lite.serve.limits import Limits, RefusalError, open_picture, read_picture
from detr_lite.serve.openapi import openapi_document, openapi_page
from detr_lite.serve.worker import ModelWorker
from detr_lite.training.explorer_page import explain_image, pack_explained
from detr_lite.viz.explorer.models import ExploredModel
from detr_lite.viz.explorer.page import explorer_page
from detr_lite.viz.pages.page import read_static

STATIC = files("detr_lite.serve") / "static"
EXPLORER_BYTES, KEPT_PAGES = 8_000_000, 8
EXPLORERS = "/explorer/"
EXPLORER_POLICY = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; media-src blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PUBLIC = ("/", "/serve.css", "/serve.js", "/theme.css", "/health")
"""Paths that need no token: the page, which asks for it. An explorer's path is a secret of its own."""


class Server:
    """The models, their limits, and the handlers of requests."""

    def __init__(self, workers: Sequence[ModelWorker], limits: Limits) -> None:
        self.workers = {worker.name: worker for worker in workers}
        self.limits = limits
        self.open_requests = 0
        self.pages: dict[str, str] = {}
        """The latest explorers that were asked for as links, by the secret part of their paths."""

    def application(self, token: str | None, hosts: Sequence[str] | None) -> Starlette:
        """Args:
        token: what requests must carry in "Authorization: Bearer TOKEN"; None for none.
        hosts: names in "Host" that are answered, without ports; None for all. On a loopback address it keeps pages of
            other sites, whose names an attacker can point at 127.0.0.1, from reading answers.
        """
        routes = [
            Route("/", self.page),
            Route("/{name:str}.css", self.static),
            Route("/serve.js", self.static),
            Route("/health", self.health),
            Route("/docs", self.docs),
            Route("/v1/openapi.json", self.openapi),
            Route("/v1/models", self.models),
            Route("/v1/detect", self.detect, methods=["POST"]),
            Route("/v1/explain", self.explain, methods=["POST"]),
            Route("/explorer/{name:str}", self.explorer),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(_Guard, token=token, hosts=hosts)],
            exception_handlers={RefusalError: _refused, 404: _missing, 405: _missing, Exception: _failed},
        )

    async def page(self, request: Request) -> Response:
        return Response((STATIC / "serve.html").read_text("utf-8"), media_type="text/html")

    async def static(self, request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        if name == "theme.css":
            return Response(read_static(name), media_type="text/css")
        if name not in ("serve.css", "serve.js"):
            return _line(404, "there is no such page")
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        return Response((STATIC / name).read_text("utf-8"), media_type=kind)

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "waiting": self.open_requests})

    async def docs(self, request: Request) -> Response:
        return Response(openapi_page(self.limits, list(self.workers)), media_type="text/html")

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(openapi_document(self.limits, list(self.workers)))

    async def models(self, request: Request) -> Response:
        facts = [model_facts(worker.name, worker.detector) for worker in self.workers.values()]
        return JSONResponse({"models": facts})

    async def detect(self, request: Request) -> Response:
        worker = self._worker(request)
        threshold = parse_threshold(request.query_params.get("threshold"), worker.detector)
        found = await self._answer(request, worker.submit)
        return JSONResponse(detections_json(worker.name, worker.detector, found, threshold))

    async def explain(self, request: Request) -> Response:
        worker = self._worker(request)
        name = request.query_params.get("name", "picture")[:200]
        text = await self._answer(request, lambda picture: worker.submit(picture, _Explain(name, worker.explored)))
        if "link" not in request.query_params:
            return Response(text, media_type="text/html")
        secret = secrets.token_urlsafe(24)
        self.pages[secret] = text
        if len(self.pages) > KEPT_PAGES:
            del self.pages[next(iter(self.pages))]
        return JSONResponse({"url": EXPLORERS + secret})

    async def explorer(self, request: Request) -> Response:
        """A page that `explain` has made, for a tab of its own: one that is opened from a script would be bound by the
        policy of the script's page, which forbids the explorer's."""
        text = self.pages.get(request.path_params["name"])
        if text is None:
            return _line(404, "this page is no longer kept; explore the picture again")
        return Response(text, media_type="text/html", headers={"Content-Security-Policy": EXPLORER_POLICY})

    async def _answer(self, request: Request, submit: "Callable[[Image.Image], Future[Any]]") -> Any:
        """What the model says of the picture in a request. Counted from the first byte to the last."""
        if self.open_requests >= self.limits.waiting:
            raise RefusalError(429, "too many requests are waiting; try again in a moment")
        self.open_requests += 1
        try:
            data = await read_picture(request, self.limits)
            picture = await run_in_threadpool(open_picture, data, self.limits)
            future = submit(picture)
            try:
                return await asyncio.wait_for(asyncio.wrap_future(future), self.limits.seconds)
            except TimeoutError as error:
                raise RefusalError(503, f"no answer within {self.limits.seconds:g} seconds; try again") from error
        finally:
            self.open_requests -= 1

    def _worker(self, request: Request) -> ModelWorker:
        name = request.query_params.get("model", next(iter(self.workers)))
        if name not in self.workers:
            raise RefusalError(422, f"there is no such model; there are: {', '.join(self.workers)}")
        return self.workers[name]


class _Explain:
    """The explorer's page of a picture."""

    def __init__(self, name: str, model: ExploredModel) -> None:
        self.name, self.model = name, model

    def __call__(self, detector: Detector, image: Image.Image) -> str:
        scene = pack_explained(detector, self.name, image, explain_image(detector, image), None, None, EXPLORER_BYTES)
        return explorer_page([scene], detector.class_names, overall_threshold(detector), models=[self.model])


class _Guard:
    """Who may ask, and the headers of every answer."""

    def __init__(self, app: ASGIApp, token: str | None, hosts: Sequence[str] | None) -> None:
        self.app = app
        self.token = None if token is None else token.encode()
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        app = self._refuse(Headers(scope=scope), scope["path"]) or self.app
        await app(scope, receive, send_with_headers)

    def _refuse(self, headers: Headers, path: str) -> Response | None:
        if self.hosts is not None and host_of(headers.get("host", "")) not in self.hosts:
            return _line(403, "this server answers on this machine alone; open it as http://127.0.0.1")
        if self.token is None or path in PUBLIC or path.startswith(EXPLORERS):
            return None
        if hmac.compare_digest(headers.get("authorization", "").encode(), b"Bearer " + self.token):
            return None
        message = "give the server's token in the header Authorization: Bearer TOKEN"
        return _line(401, message, {"WWW-Authenticate": "Bearer"})


def host_of(header: str) -> str:
    """The name in a "Host" header without its port."""
    return header[: header.find("]") + 1] if header.startswith("[") else header.split(":")[0].lower()


def _line(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": " ".join(message.split())}, status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    return _line(error.status, str(error), {"Retry-After": "1"} if error.status in (429, 503) else None)


async def _missing(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    reason = "this page takes another method" if status == 405 else "there is no such page"
    return _line(status, f"{reason}; see /docs")


async def _failed(request: Request, error: Exception) -> Response:
    return _line(500, "the server has a fault; its log says more")
