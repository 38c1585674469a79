"""Ctrl-C and SIGTERM: finish the step, write a checkpoint, and end with the exit code of the signal."""

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from detr_lite.training.distributed.launch import is_rank_0

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(SystemExit):
    """The run was stopped by a signal, after its checkpoint was written."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


class StopSignals:
    """A context in which signals are recorded, so that training can stop after the step that is under way.

    Outside training there is nothing to save, and a signal ends the process at once; a second Ctrl-C always does.
    """

    def __init__(self) -> None:
        self.received = 0
        """The signal's number; 0 while there is none."""
        self.is_training = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.getsignal(number) for number in SIGNALS}
            self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def listen(self) -> None:
        """Install the handlers, also over those that something else has installed since."""
        if self._previous:
            for number in SIGNALS:
                signal.signal(number, self._record)

    def _record(self, number: int, frame: FrameType | None) -> None:
        is_repeated = self.received == number == signal.SIGINT
        self.received = number
        if is_repeated:
            os._exit(128 + number)  # not an exception, which cleanup code might catch on its way
        if not self.is_training:
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)
        again = "; Ctrl-C once more ends at once" if number == signal.SIGINT else ""
        if is_rank_0():  # all ranks stop, one message is enough
            # Not through Python's stderr, which the signal may have interrupted; its reader may have ended already.
            with contextlib.suppress(OSError):
                os.write(2, f"\n{signal.Signals(number).name}: stopping after this step{again}\n".encode())


def reset_worker_signals(worker: int) -> None:
    """`worker_init_fn` of loading processes, which would otherwise inherit the handlers above.

    Each gets a session of its own: torchrun signals a whole process group, and without its loading processes the
    training process could not finish the step.
    """
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches them, too; the training process ends them itself
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
