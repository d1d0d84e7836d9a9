"""Wall time and peak memory of a full check beside those of the bare minimum, in one run.

The bare minimum is one process that imports torch, builds the model, exports it once, runs it once
natively and once on onnxruntime: what anybody must do to compare at all. The check does that and climbs
the whole ladder. Runs alternate, so that a machine's drift meets both; ratios are what to compare.

    python benchmarks/check_cost.py [MODEL] [--repeats N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MINIMUM = """
import sys, torch, torchvision, onnxruntime
torch.manual_seed(0)
model = torchvision.models.get_model(sys.argv[1], weights=None).eval()
x = torch.randn(1, 3, 224, 224)
with torch.no_grad():
    torch.onnx.export(model, (x,), sys.argv[2], dynamo=True, verbose=False)
    model(x)
session = onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
session.run(None, {session.get_inputs()[0].name: x.numpy()})
"""


def tree_bytes(root: int) -> int:
    """Resident bytes of a process and its descendants, from /proc."""
    children: dict[int, list[int]] = {}
    resident: dict[int, int] = {}
    page = os.sysconf("SC_PAGE_SIZE")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                resident[int(entry.name)] = int((entry / "statm").read_text().split()[1]) * page
            except (OSError, IndexError):
                continue  # it ended while we looked
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    total, queue = 0, [root]
    while queue:
        pid = queue.pop()
        total += resident.get(pid, 0)
        queue += children.get(pid, [])
    return total


def measure(command: list[str], environment: dict[str, str], folder: Path | None = None) -> tuple[float, int, int]:
    """Wall seconds, peak bytes of the whole process tree, exit status of a command, run in a folder."""
    began = time.perf_counter()
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, cwd=folder, stdin=quiet, stdout=quiet, stderr=quiet)
    peak = 0
    stop = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.05):
            peak = max(peak, tree_bytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    seconds = time.perf_counter() - began
    stop.set()
    watcher.join()
    return seconds, peak, status


def main() -> int:
    """Prints the table; fails when a command fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model", nargs="?", default="resnet50")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows: dict[str, list[tuple[float, int]]] = {"minimum": [], "check": []}
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, ONNXEQ_CACHE=f"{folder}/cache")
        # Byte code as on anybody's machine: without it every process of the check compiles this project anew.
        for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"):
            environment.pop(name, None)
        commands = {
            "minimum": [sys.executable, "-c", MINIMUM, options.model, f"{folder}/model.onnx"],
            "check": [
                sys.executable,
                "-m",
                "onnxeq",
                "check",
                f"torchvision:{options.model}@seeded",
                "--no-cache",
                "-q",
            ],
        }
        measure(commands["minimum"], environment)  # the first import reads from disk, for whoever is first
        for _ in range(options.repeats):
            for name, command in commands.items():
                seconds, peak, status = measure(command, environment)
                if status != 0:
                    print(f"{name} ended with status {status}: {' '.join(command)}", file=sys.stderr)
                    return 1
                rows[name].append((seconds, peak))
    print(f"{options.model}, {options.repeats} alternating runs, {os.cpu_count()} cores (median, least to most)")
    medians = {}
    for name, figures in rows.items():
        seconds = sorted(f[0] for f in figures)
        medians[name] = (statistics.median(seconds), statistics.median(f[1] for f in figures))
        print(
            f"  {name:8} {medians[name][0]:6.1f} s ({seconds[0]:.1f} to {seconds[-1]:.1f})"
            f"   {medians[name][1] / 2**20:6.0f} MiB peak"
        )
    ratios = [medians["check"][i] / medians["minimum"][i] for i in (0, 1)]
    print(f"  check / minimum: {ratios[0]:.2f} times the wall time, {ratios[1]:.2f} times the peak memory")
    return 0


if __name__ == "__main__":
    sys.exit(main())
