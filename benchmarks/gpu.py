"""All that is claimed for GPUs, measured part by part within a few minutes, as one JSON file and a table.

Each part runs in a process of its own: an error of the device that no later call survives ends one part alone, and a
part that takes too long is ended with the rows that it has.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.study import markdown
from detr_lite.io import atomic_write
from detr_lite.structures import DetrLiteError

SECONDS = {
    "device": 15, "step": 150, "optimizer": 15, "attention": 30, "memory": 40, "latency": 40, "loading": 30,
    "learning": 160,
}  # fmt: skip
"""Parts in their order, and the time of each in a run of `MINUTES`; what one leaves goes to those after it."""
MINUTES = 8.0
REPOSITORY = Path(__file__).resolve().parents[1]
LEAST_SECONDS = 4.0
"""A part that would have less is skipped."""


@dataclass(frozen=True)
class GpuSettings:
    """What the parts measure."""

    device: str = "auto"
    """ "auto" is CUDA where there is such a device, else the processor."""
    toy: bool = False
    """A tiny model and few repeats, to test the measurements themselves."""
    learning_minutes: float = 1.0
    """Of training, for each of the two models."""


Row = dict[str, Any]
Emit = Callable[[Row], None]
Report = dict[str, Any]


def gpu_report(settings: GpuSettings, minutes: float, output: Path, parts: Sequence[str] = tuple(SECONDS)) -> str:
    """Measure, write `output` after each part, and return the tables as markdown.

    Errors: a part that does not exist, no time.
    """
    if unknown := [part for part in parts if part not in SECONDS]:
        raise DetrLiteError(f"--parts: {unknown[0]} is not one of {', '.join(SECONDS)}")
    if not minutes > 0:
        raise DetrLiteError(f"--minutes is {minutes:g}; it must be above 0")
    report: Report = {"settings": asdict(settings), "minutes": minutes, "parts": {}}
    deadline = time.monotonic() + 60 * minutes
    shares = {part: SECONDS[part] * minutes / MINUTES for part in SECONDS if part in parts}
    for part in shares:
        later = list(shares)[list(shares).index(part) + 1 :]
        left = deadline - time.monotonic()
        limit = min(left, max(shares[part], left - sum(shares[each] for each in later)))
        if limit < LEAST_SECONDS:
            found: Report = {"state": "skipped", "reason": f"{max(0, left):.0f} s were left", "rows": []}
        else:
            found = _run_part(part, settings, limit)
        report["parts"][part] = found
        write_json(output, report)
    return report_tables(report)


def write_json(path: Path, content: Report) -> None:
    atomic_write(path, lambda file: file.write(f"{json.dumps(content, indent=1)}\n".encode()), durable=False)


def _run_part(part: str, settings: GpuSettings, limit: float) -> Report:
    """The rows that a part wrote, how it ended, and the end of what it said if that was no good end."""
    command = [sys.executable, "-m", "benchmarks.gpu_part", part, json.dumps({**asdict(settings), "limit": limit})]
    start = time.monotonic()
    with tempfile.TemporaryFile() as rows, tempfile.TemporaryFile() as messages:
        # A session of its own, so that loading processes and trainings end with it.
        process = subprocess.Popen(command, stdout=rows, stderr=messages, cwd=REPOSITORY, start_new_session=True)
        try:
            code: int | None = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        said = _content(messages)[-2000:]
        found: Report = {"seconds": round(time.monotonic() - start, 1), "limit": round(limit, 1)}
        found["rows"] = _rows(_content(rows))
    if code is None:
        return {"state": "cut off", "reason": f"after its {limit:.0f} s", **found}
    if code:
        return {"state": "failed", "reason": said.strip().splitlines()[-1] if said.strip() else f"code {code}",
                "messages": said, **found}  # fmt: skip
    return {"state": "done", "reason": "", **found}


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the part and everything that it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # all have ended
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _rows(text: str) -> list[Row]:
    """One JSON object a line; the last one may be cut off, and libraries may print lines of their own."""
    rows = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return rows


def report_tables(report: Report) -> str:
    """A table for each part, and what became of parts that did not come to their end."""
    lines: list[str] = []
    for part, found in report["parts"].items():
        lines += [f"### {part}", ""]
        if found["state"] != "done":
            lines += [f"{found['state']}: {found['reason']}", ""]
        if found["rows"]:
            columns = list(dict.fromkeys(name for row in found["rows"] for name in row))
            lines += [markdown(columns, [[_cell(row.get(name, "")) for name in columns] for row in found["rows"]]), ""]
    return "\n".join(lines).rstrip()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("\n", " ")
