"""The server as a process: its socket, its signals and its end."""

import contextlib
import importlib.util
import logging
import socket
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from detr_lite.errors import DetrLiteError
from detr_lite.text import reason_of

if TYPE_CHECKING:
    from detr_lite.serve.limits import Limits
    from detr_lite.serve.worker import ModelWorker

logger = logging.getLogger(__name__)

GRACE_SECONDS = 4
"""For answers that are being made when the server is stopped."""


def require_server() -> None:
    """Errors: a package of the extra `serve` is not installed."""
    for package, name in (("starlette", "starlette"), ("uvicorn", "uvicorn"), ("python_multipart", "python-multipart")):
        if importlib.util.find_spec(package) is None:
            raise DetrLiteError(
                f"{name} is not installed; install it with: pip install 'detr_lite[serve]', or in a checkout with: "
                "pip install -e '.[serve]'"
            )


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens there. Errors: an address that this machine does not have, a port that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            connection.bind((host, port))
            connection.listen(1024)
        except OSError as error:
            raise DetrLiteError(
                f"--host {host} --port {port} cannot be used ({reason_of(error)}); give another --port, such as "
                f"{port + 1 if 0 < port < 65535 else 8001}"
            ) from error
        yield connection


def run(
    connection: socket.socket,
    workers: "Sequence[ModelWorker]",
    limits: "Limits",
    token: str | None,
    hosts: Sequence[str] | None,
) -> None:
    """Answer until SIGTERM or Ctrl-C: waiting requests are then refused, and those being answered finished."""
    import uvicorn

    from detr_lite.serve.app import Server

    class Stoppable(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            for worker in workers:
                worker.close()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        Server(workers, limits).application(token, hosts),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    host, port = connection.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logger.info(f"models: {', '.join(worker.name for worker in workers)}")
    logger.info(f"open http://{shown}:{port} in a browser; the API is described at http://{shown}:{port}/docs")
    logger.info("Ctrl-C stops the server")
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again when all is closed
        Stoppable(config).run(sockets=[connection])
    logger.info("stopped")
