"""`detr-lite serve`: a page and an API for trained models."""

import os
from collections.abc import Sequence
from pathlib import Path

from detr_lite.cli.command import CHECKPOINT_HELP, CommandParser
from detr_lite.errors import DetrLiteError
from detr_lite.text import command_line

DESCRIPTION = """Opens a page in which pictures are dropped, pasted or taken with a camera, and shows what the model
finds in them, with a slider for the score, the attention explorer of each picture, and two models side by side; and an
API (POST /v1/detect; http://127.0.0.1:8000/docs describes it). Pictures stay in memory and are not kept. Ctrl-C stops
it."""

TOKEN_VARIABLE = "DETR_LITE_TOKEN"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def main(words: Sequence[str]) -> None:
    parser = CommandParser(prog=command_line("serve"), description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add(
        "--checkpoint",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        metavar="CHECKPOINT",
        help=f"{CHECKPOINT_HELP}; two are shown side by side",
    )
    add("--port", type=int, default=8000, help="(default: 8000)")
    add(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, which only this machine reaches)"
    )
    token = f"what requests must carry in Authorization: Bearer TOKEN; needed for other addresses (or {TOKEN_VARIABLE})"
    add("--token", default=os.environ.get(TOKEN_VARIABLE), help=token)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: auto, a GPU if there is one)")
    add("--batch_size", type=int, default=4, help="most pictures that are answered at once (default: 4)")
    add("--max_megabytes", type=float, default=20.0, help="of a request (default: 20)")
    add("--max_megapixels", type=float, default=50.0, help="of a picture (default: 50)")
    add("--max_waiting", type=int, default=64, help="requests; further ones get status 429 (default: 64)")
    add("--max_seconds", type=float, default=30.0, help="until a request is answered (default: 30)")
    serve(**vars(parser.parse_args(words)))


def serve(
    checkpoint: Sequence[Path],
    port: int = 8000,
    host: str = "127.0.0.1",
    token: str | None = None,
    device: str = "auto",
    batch_size: int = 4,
    max_megabytes: float = 20.0,
    max_megapixels: float = 50.0,
    max_waiting: int = 64,
    max_seconds: float = 30.0,
) -> None:
    """Answer requests until SIGTERM or Ctrl-C.

    Errors: a wrong argument, an address beyond this machine without a token, a port that is taken, and those of
    `Detector.from_checkpoint`.
    """
    for option, value in (
        ("--batch_size", batch_size),
        ("--max_megabytes", max_megabytes),
        ("--max_megapixels", max_megapixels),
        ("--max_waiting", max_waiting),
        ("--max_seconds", max_seconds),
    ):
        if not value > 0:
            raise DetrLiteError(f"{option} is {value:g}; it must be more than 0")
    if not 0 <= port < 65536:
        raise DetrLiteError(f"--port is {port}; it must be from 1 to 65535, or 0 for any that is free")
    if host not in LOOPBACK and not token:
        raise DetrLiteError(
            f"--host {host} lets other machines in, which needs a secret that they know: give --token TOKEN"
        )
    if token is not None and (not token.isascii() or not token.isprintable() or not 8 <= len(token) <= 200):
        raise DetrLiteError("--token must have 8 to 200 printable ASCII characters")
    from detr_lite.serve.running import listen, require_server, run  # import torch, as --help does not

    require_server()
    with listen(host, port) as connection:  # before the models are read, which takes longer
        from detr_lite.serve.limits import Limits
        from detr_lite.serve.models import load_workers

        workers = load_workers(checkpoint, device, batch_size, max_waiting)
        limits = Limits(max_megabytes, max_megapixels, max_waiting, max_seconds)
        run(connection, workers, limits, token, hosts=(*LOOPBACK, "[::1]") if host in LOOPBACK else None)
