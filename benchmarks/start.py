"""Time until a command shows its help or refuses what needs no model."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.study import markdown

CALLS = {
    "`train --help`": ["train", "--help"],
    "`predict --help`": ["predict", "--help"],
    "`train --run_dir` that holds a run": ["train", "--config", "coco_small.yaml", "--run_dir", "run"],
    "`train --data.root` that does not exist": ["train", "--config", "coco_small.yaml", "--data.root", "none"],
    "`evaluate --checkpoint` that does not exist": ["evaluate", "--checkpoint", "none.ckpt"],
    "`doctor` of a folder that does not exist": ["doctor", "none"],
}
IMPORTS = {"torch": "torch", "all of a prediction": "detr_lite.detector", "all of a training": "detr_lite.training.run"}

MEASURE = """
import json, os, subprocess, sys
subprocess.run([sys.executable, *json.loads(sys.argv[1])], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
times = os.times()
print(times.children_user + times.children_system)
"""


def start_table(repeats: int) -> str:
    """Markdown: the least processor time of several calls, each in a new process, and of imports alone."""
    words = {name: ["-m", "detr_lite", *call] for name, call in CALLS.items()}
    words |= {f"import of {name}": ["-c", f"import {module}"] for name, module in IMPORTS.items()}
    with tempfile.TemporaryDirectory(prefix="detr_lite_start_") as folder:
        (Path(folder) / "run").mkdir()
        (Path(folder) / "run/config.yaml").touch()
        # All in turn, so that a moment in which the machine is busy spoils one round and not one row.
        rounds = [{name: _seconds(call, folder) for name, call in words.items()} for _ in range(repeats)]
    rows = [[name, f"{min(each[name] for each in rounds):.2f}"] for name in words]
    return markdown(["", "seconds of a processor"], rows)


def _seconds(words: list[str], folder: str) -> float:
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    ended = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(ended.stdout)
