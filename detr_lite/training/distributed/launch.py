"""Runs of several processes: which launcher started them, and how all of them end when one does."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

import lightning as L
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed as dist

from detr_lite.ranks import is_first_process
from detr_lite.structures import DetrLiteError
from detr_lite.training.lightning_internals import take_child_processes

LOST = 3
"""Exit code of a process whose only error is that another process has gone."""

MAIN = "DETR_LITE_MAIN_PROCESS"
"""Environment variable with the process id of rank 0, for the processes that Lightning starts."""

STARTUP = 10.0
"""Seconds that rank 0 has to report an error which all ranks have met before training."""

NOTICE = 20.0
"""Seconds that a process has to end by itself after another one, without which it cannot continue, has ended."""


def is_rank_0() -> bool:
    """Whether this process is rank 0, also before there is a trainer."""
    return is_first_process() and not getattr(rank_zero_only, "rank", 0)


@dataclass(frozen=True)
class Launch:
    """The launcher that has started the processes of a run, and how many it has started."""

    launcher: str | None = None
    """None: Lightning starts them, as the settings say."""
    processes_per_node: int = 1
    nodes: int = 1

    @staticmethod
    def detect() -> "Launch":
        if dist.is_available() and dist.is_torchelastic_launched():
            per_node = int(os.environ["LOCAL_WORLD_SIZE"])
            return Launch("torchrun", per_node, int(os.environ["WORLD_SIZE"]) // per_node)
        if SLURMEnvironment.detect():
            per_node, nodes = (int(os.environ.get(f"SLURM_{name}", 1)) for name in ("NTASKS_PER_NODE", "NNODES"))
            return Launch("SLURM", per_node, nodes)
        return Launch()

    def devices(self, setting: int | str) -> int | str:
        """`Trainer(devices=...)`, where "auto" means as many as were started."""
        return self.processes_per_node if self.launcher and setting == "auto" else setting

    def num_nodes(self, setting: int) -> int:
        """`Trainer(num_nodes=...)`, where 1, the default, means as many as were started."""
        return self.nodes if self.launcher and setting == 1 else setting

    @property
    def plugins(self) -> list[SLURMEnvironment]:
        """Under SLURM, keeps Lightning from writing and resuming checkpoints of its own."""
        return [SLURMEnvironment(auto_requeue=False)] if self.launcher == "SLURM" else []

    def check(self, trainer: L.Trainer) -> None:
        """Errors: the settings ask for more or fewer processes than were started; some would wait forever."""
        expected, started = (trainer.num_devices, trainer.num_nodes), (self.processes_per_node, self.nodes)
        if self.launcher and expected != started:
            raise DetrLiteError(
                f"{self.launcher} started {_process_count(*started)}, but --trainer.devices and --trainer.num_nodes "
                f"ask for {_process_count(*expected)}; leave both out"
            )


class ProcessSupervisor(Callback):
    """A context in which no process waits for one that has ended, and each error is reported once.

    The process that has met an error reports it and ends with its exit code. The others see a lost connection and end
    without a message; rank 0 reports the death of a process that was killed. When all stop on a signal, only rank 0
    has its exit code: torchrun or SLURM would take another rank's for a failure and kill rank 0 before it has finished.

    Processes that Lightning has started are watched and ended by rank 0. Lightning's own monitor would kill rank 0,
    too, before it could report why.
    """

    def __init__(self) -> None:
        self._children: list[subprocess.Popen[bytes]] = []
        self._parent: int | None = None
        self._is_torchrun = dist.is_available() and dist.is_torchelastic_launched()
        self._is_distributed = False
        self._is_over = threading.Event()

    def __enter__(self) -> "ProcessSupervisor":
        if MAIN in os.environ and int(os.environ.get("LOCAL_RANK", 0)) > 0:
            self._parent = int(os.environ[MAIN])
        elif self._is_torchrun:
            self._parent = os.getppid()
        else:
            os.environ[MAIN] = str(os.getpid())
        if self._parent is not None:
            self._start_watch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        os.environ.pop(MAIN, None)
        if error is None:
            return
        if not self._is_distributed:
            if not is_rank_0() and isinstance(error, DetrLiteError | OSError):
                # Most likely rank 0 has met the same error, and the launcher ends this process once it is reported.
                time.sleep(STARTUP)
            return
        try:
            if not is_rank_0():
                self._end_quietly(error)
            elif isinstance(error, RuntimeError):
                self._report_cause(error)
        finally:
            # A child that stops on the same signal needs a moment; one that waits for this process would do so forever.
            self._end_children(NOTICE if isinstance(error, SystemExit) else 0.0)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._is_distributed = trainer.world_size > 1
        self._children = take_child_processes(trainer)
        if self._children:
            self._start_watch()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # After training rank 0 works alone.
        self._is_over.set()

    def _end_quietly(self, error: BaseException) -> None:
        """On other ranks than 0: end without a message unless the error is this process's own."""
        if isinstance(error, SystemExit | KeyboardInterrupt):
            raise SystemExit(0) from error
        if is_lost_connection(error):
            raise SystemExit(LOST) from error

    def _report_cause(self, error: RuntimeError) -> None:
        """On rank 0: if another process has failed, end with its exit code, or report that it was killed."""
        is_lost = is_lost_connection(error)
        # A process takes some seconds to end after it has closed its connections.
        end = time.monotonic() + (NOTICE / 2 if is_lost else 1.0)
        while time.monotonic() < end:
            rank, code = self._failed_child()
            if code > 0:
                raise SystemExit(code) from error
            if code < 0:
                raise DetrLiteError(_killed_message(rank, code)) from error
            time.sleep(0.1)  # torchrun and SLURM, which see the other process end, end this one here by a signal
        if is_lost:
            raise DetrLiteError(
                "the connection to another process is lost: it has ended, and has reported why, or the network "
                "failed; continue with --resume"
            ) from error

    def _failed_child(self) -> tuple[int, int]:
        """Rank and exit code of a child that failed or was killed by a signal; (0, 0) if none did."""
        codes = {rank: child.poll() for rank, child in enumerate(self._children, start=1)}
        return next(((rank, code) for rank, code in codes.items() if code not in (None, 0, LOST)), (0, 0))

    def _end_children(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while _is_any_running(self._children) and time.monotonic() < end:
            time.sleep(0.05)
        for child in self._children:
            child.kill()
        for child in self._children:
            child.wait()

    def _start_watch(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """End this process if its parent or a child has ended and it does not notice, as when it waits for a GPU."""
        rank, code, is_orphan = 0, 0, False
        while not (code or is_orphan):
            if self._is_over.wait(1.0):
                return
            rank, code = self._failed_child()
            is_orphan = self._parent is not None and os.getppid() != self._parent
        if is_orphan and self._is_torchrun:
            # All ranks are still running, and can stop with a checkpoint.
            os.kill(os.getpid(), signal.SIGTERM)
        if self._is_over.wait(NOTICE):
            return
        if code < 0:
            os.write(2, f"error: {_killed_message(rank, code)}\n".encode())
        for child in self._children:
            child.kill()
        os._exit(code if code > 0 else 1)


def is_lost_connection(error: BaseException) -> bool:
    """Whether the error says no more than that another process cannot be reached."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def _is_any_running(processes: Iterable[subprocess.Popen[bytes]]) -> bool:
    return any(process.poll() is None for process in processes)


def _killed_message(rank: int, code: int) -> str:
    name = signal.Signals(-code).name
    guess = ", perhaps because memory ran out" if name == "SIGKILL" else ""
    return f"the process of rank {rank} was killed by {name}{guess}; continue with --resume"


def _process_count(per_node: int, nodes: int) -> str:
    processes = f"{per_node} process{'' if per_node == 1 else 'es'}"
    return f"{processes} on one node" if nodes == 1 else f"{processes} on each of {nodes} nodes"
