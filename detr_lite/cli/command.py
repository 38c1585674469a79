"""What all commands share: their parser, logging, and how they end.

A fault that the user can correct is one line on stderr and exit code 2, without a traceback.
"""

import argparse
import difflib
import errno
import io
import logging
import os
import sys
from collections.abc import Callable
from typing import Literal, NoReturn, TextIO

from tqdm import tqdm

from detr_lite.cores import limit_spinning
from detr_lite.errors import DetrLiteError
from detr_lite.ranks import is_first_process
from detr_lite.text import printable

FORMATS = ("coco", "csv", "yolo", "json")
"""Of the detections that predict writes."""

CHECKPOINT_HELP = (
    "checkpoint, such as RUN/checkpoints/best.ckpt, a run folder (its best one), or a detector of transformers: "
    "hf:NAME on the Hugging Face hub, "
    "such as hf:ustc-community/dfine-small-coco, or a folder that save_pretrained has written"
)
NMS_HELP = (
    "remove detections that overlap a higher-scoring one of their class by more than this IoU, such as 0.7; after a "
    "short training some objects are detected twice (default: keep all)"
)


TILE_HELP = (
    "detect in pictures larger than this also in overlapping tiles of this size, which finds objects of a few pixels; "
    "at least 32, and best the image size of training (default: in the whole picture alone)"
)
OVERLAP_HELP = "share of a tile that its neighbor also shows, from 0 to less than 1 (default: 0.2)"
THRESHOLD_HELP = (
    "minimum score, from 0 to 1, or best: of each class the score of highest F1 on the validation images, from the "
    "checkpoint or the thresholds.json of its evaluation"
)


def parse_threshold(text: str) -> float | Literal["best"]:
    """The value of --threshold, whose range is checked where it is used."""
    if text == "best":
        return "best"
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a score from 0 to 1 nor best") from error


def check_threshold(given: float | Literal["best"]) -> None:
    """Errors: neither a score nor "best"."""
    if given != "best" and not (isinstance(given, float | int) and 0 <= given <= 1):
        raise DetrLiteError(f"--threshold is {given}; it must be from 0 to 1, or best")


class CommandParser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: "):
            word = message.split()[2].split("=")[0]
            near = difflib.get_close_matches(word, self._option_string_actions, n=1, cutoff=0.6)
            message += f"; did you mean {near[0]}?" if near else ""
        raise DetrLiteError(f"{message}; see --help")


class _Handler(logging.Handler):
    """Writes to the current `sys.stdout`, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))
        sys.stdout.flush()


class _Formatter(logging.Formatter):
    """The message alone, after "warning: " if it is one."""

    def format(self, record: logging.LogRecord) -> str:
        message = "\n".join(map(printable, record.getMessage().split("\n")))
        return f"warning: {message}" if record.levelno >= logging.WARNING else message


def configure_logging(rank_0_only: bool = False) -> None:
    """Show what the package logs on stdout; with `rank_0_only`, of several processes of one run only the first does."""
    logger = logging.getLogger("detr_lite")
    logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, _Handler)]
    handler = _Handler()
    handler.setFormatter(_Formatter())
    logger.addHandler(handler)
    logger.setLevel(logging.CRITICAL if rank_0_only and not is_first_process() else logging.INFO)


def run_command(main: Callable[[], None]) -> None:
    """Run a command and turn its end into an exit code.

    0; 2 for a fault that the user can correct; 130 for Ctrl-C; 141 if the reader of stdout has closed it.
    """
    limit_spinning()
    configure_logging()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files and classes may not be encodable in the terminal
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()
    except DetrLiteError as error:
        _refuse(one_line(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _is_closed(sys.stdout):
            sys.exit(141)  # as the shell reports SIGPIPE
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _refuse(f"{error.strerror}; make room on the disk")
        if error.filename is None:
            raise
        # Such as a folder without write permission: the user's to correct, and found only when writing.
        _refuse(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


def _is_closed(stream: TextIO) -> bool:
    """Whether the reader has closed the pipe, as `head` does; what is still to be written is then discarded."""
    try:
        print(file=stream, flush=True)  # flushing alone is not enough: what failed before is no longer buffered
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return True
    return False


def one_line(error: DetrLiteError) -> str:
    """The message alone: an error in a data loading process arrives inside that process's traceback."""
    text = str(error).strip() or "unknown"
    if "\nTraceback (most recent call last)" in text or "\nOriginal Traceback" in text:
        text = text.splitlines()[-1].removeprefix(f"{DetrLiteError.__module__}.{DetrLiteError.__qualname__}: ")
    return " ".join(text.splitlines())


def _refuse(message: str) -> NoReturn:
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(2)
