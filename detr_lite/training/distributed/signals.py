"""Ctrl-C and SIGTERM: the step is finished, a checkpoint written, and the exit code is that of the signal."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(SystemExit):
    """A run that was stopped by a signal and has kept all that it had done."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


class StopSignals:
    """While it is entered, the signals are noted instead of acted upon, for who asks at the next safe moment.

    Outside training there is nothing to keep, and a signal ends at once; a second Ctrl-C always does.
    """

    def __init__(self) -> None:
        self.received = 0
        """The signal's number; 0 while there is none."""
        self.is_training = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in SIGNALS}
            self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def listen(self) -> None:
        """Take the signals over, also from who has taken them in the meantime."""
        if self._before:
            for number in SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        is_repeated = self.received == number == signal.SIGINT
        self.received = number
        if is_repeated:
            # Not an exception: it would be caught on its way by who wants to tidy up first.
            os._exit(128 + number)
        if not self.is_training:
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)
        again = "; Ctrl-C once more ends at once" if number == signal.SIGINT else ""
        if not getattr(rank_zero_only, "rank", 0):  # the others stop, too, but once is enough
            # Past Python's own stderr, in the middle of whose work the signal may have come. Nobody may be reading it
            # any more, as when Ctrl-C has ended a pipe's other programs first.
            with contextlib.suppress(OSError):
                os.write(2, f"\n{signal.Signals(number).name}: stopping after this step{again}\n".encode())


class OutlivingPipe:
    """A stream that goes on into nothing when its reader has gone: who ends `tee` or `head` does not end a run."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._try(lambda: self._stream.write(text), len(text))

    def flush(self) -> None:
        self._try(self._stream.flush, 0)

    def _try(self, act: Callable[[], Any], otherwise: int) -> int:
        try:
            return act() or 0
        except BrokenPipeError:
            # What Python has buffered goes there too, or it would complain of it at its own end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            return otherwise


@contextlib.contextmanager
def outliving_pipes() -> Iterator[None]:
    """While it is entered, what is printed may be read by nobody."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (OutlivingPipe(stream) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def leave_signals_to_parent(worker: int) -> None:
    """For loading processes, which would otherwise share the handlers above and answer a signal each by itself.

    In a session of their own: torchrun signals the whole group of a process, and without loading processes, or with
    their half of the work undone, the step could not be finished.
    """
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches them too; the parent ends them when it is done
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
