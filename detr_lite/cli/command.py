"""How a command ends when something is wrong: one line for what the user can mend, exit code 2, no traceback."""

import argparse
import errno
import io
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

from tqdm import tqdm

from detr_lite.structures import DetrLiteError
from detr_lite.text import printable


class ToolParser(argparse.ArgumentParser):
    """argparse that tells a wrong command line in one line, without repeating the usage."""

    def error(self, message: str) -> NoReturn:
        raise DetrLiteError(f"{message}; see --help")


class _Handler(logging.Handler):
    """Writes to whatever `sys.stdout` is at the moment, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))
        sys.stdout.flush()


def configure_logging() -> None:
    """Show what the package logs, on stdout; of several processes only the first one speaks."""
    logger = logging.getLogger("detr_lite")
    logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, _Handler)]
    handler = _Handler()
    handler.setFormatter(_Formatter())
    logger.addHandler(handler)
    rank = next((os.environ[name] for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK") if name in os.environ), "0")
    logger.setLevel(logging.INFO if rank == "0" else logging.CRITICAL)


class _Formatter(logging.Formatter):
    """The message alone; a warning says that it is one."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        return f"warning: {message}" if record.levelno >= logging.WARNING else message


def run_command(main: Callable[[], None]) -> None:
    """Run a tool's main function and turn its end into an exit code: 0, 2 for a user's fault, 130 for Ctrl-C, 141 for
    a reader of what is printed who has gone."""
    configure_logging()
    if isinstance(sys.stdout, io.TextIOWrapper):  # files and classes may have names in letters that the terminal lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        main()
        sys.stdout.flush()
    except DetrLiteError as error:
        _refuse(one_line(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _is_unread(sys.stdout):
            sys.exit(141)  # as the shell has it for what SIGPIPE ends
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _refuse(f"{error.strerror}; make room on the disk")
        if error.filename is None:
            raise
        # A folder that may not be written, a full disk: theirs to mend, and found only in the act.
        _refuse(f"{error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


def _is_unread(stream: TextIO) -> bool:
    """Whether whoever read along has seen enough, as `head` does. What is still to be written then goes nowhere."""
    try:
        print(file=stream, flush=True)  # to flush alone would not tell: what failed before is no longer there
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return True
    return False


def one_line(error: DetrLiteError) -> str:
    """The message itself: an error in a loading process arrives wrapped in that process's traceback."""
    text = str(error).strip() or "unknown"
    if "\nTraceback (most recent call last)" in text or "\nOriginal Traceback" in text:
        text = text.splitlines()[-1].removeprefix(f"{DetrLiteError.__module__}.{DetrLiteError.__qualname__}: ")
    return " ".join(text.splitlines())


def _refuse(message: str) -> NoReturn:
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(2)
