"""The referee beside torch in float64: wall time and peak memory, and what it costs within a whole check.

One image of 224 x 224, one thread each; both processes stay alive and run in turns, so that the machine's drift meets
both; the median counts. Peak memory is the most that a process had resident, from its start to its end, everything
included: imports, loading the weights, the first run. *Above imports* leaves out what was resident before the model
was touched, which is some 350 MiB with torch and 60 MiB without.

The share of a check: the seconds of its jobs that run the referee (the float64 traces of the artifact, of the
unfolded and the normalised graph, the rounding draws and the constant floor), as ``Report.timings`` has them, divided
by the wall seconds of the check. Jobs run side by side, so this is an upper bound of the time that one waits for them;
it is what the aim is held against. Their share of the seconds of all jobs is printed beside it.

    python benchmarks/referee.py [MODEL ...] [--repeats N] [--check MODEL]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import print_table, progress

import onnxeq

MODELS = "resnet50 densenet121 vit_b_16 convnext_tiny mobilenet_v2 deeplabv3_mobilenet_v3_large".split()

AIM = 1.5
"""Of wall time and of peak memory, each."""

AIM_SHARE = 0.40

_SAME = 1e-5
"""Relative difference up to which both are taken to compute the same model: folding rounds weights to float32."""

_PROCESS = Path(__file__).with_name("executor_process.py")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Figures:
    """One executor on one model; bytes."""

    seconds: float
    peak: int
    imports: int


class Executor:
    """A process that runs one model once at a time."""

    def __init__(self, kind: str, model: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_PROCESS), kind, model, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | _ONE_THREAD,
        )
        self.seconds: list[float] = []

    def answer(self) -> str:
        """The next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(map(str, self._process.args))} ended early")  # type: ignore[arg-type]
        return line

    def run(self) -> None:
        """One timed run."""
        self._say("run")
        self.seconds.append(float(self.answer()))

    def end(self) -> tuple[Figures, list[float]]:
        """What it needed, and a sample of its outputs."""
        self._say("end")
        told = json.loads(self.answer())
        self._process.wait()
        return Figures(statistics.median(self.seconds), told["peak"], told["imports"]), told["result"]

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()


def compare(model: str, repeats: int) -> dict[str, Figures]:
    """Both executors on one model, in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, str(_PROCESS), "export", model, name],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        executors = {}
        for kind in ("torch", "referee"):  # one is ready before the other starts, so that neither loads beside it
            executors[kind] = Executor(kind, model, folder)
            executors[kind].answer()
        for _ in range(repeats):
            for executor in executors.values():
                executor.run()
        ended = {kind: executor.end() for kind, executor in executors.items()}
    a, b = (np.asarray(ended[kind][1]) for kind in ("torch", "referee"))
    apart = float(np.abs(a - b).max() / np.abs(a).max())
    if not apart <= _SAME:
        raise SystemExit(f"{model}: the two differ by {apart:.2g} of the largest output; they run different models")
    return {kind: figures for kind, (figures, _) in ended.items()}


def cost_in_check(model: str) -> tuple[float, float, float]:
    """Seconds: a whole check's wall time, its referee jobs, all its jobs."""
    began = time.perf_counter()
    report = onnxeq.check(f"torchvision:{model}@seeded", providers=["cpu"], use_cache=False)
    wall = time.perf_counter() - began
    jobs = {str(t["job"]): float(t["seconds"]) for t in report.timings}
    referee = [s for name, s in jobs.items() if name.startswith("referee/")]
    for name, seconds in jobs.items():
        progress(f"    {name:22} {seconds:6.1f} s")
    return wall, sum(referee), sum(jobs.values())


def main() -> int:
    """Prints both; 1 when a ratio or the share is over its aim."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--check", default="resnet50", help="the model of the whole check; empty for none")
    options = parser.parse_args()
    rows, over = [], []
    for model in options.models:
        progress(model)
        figures = compare(model, options.repeats)
        torch, referee = figures["torch"], figures["referee"]
        ratios = {"wall": referee.seconds / torch.seconds, "peak": referee.peak / torch.peak}
        over += [f"{model} {name} {value:.2f}" for name, value in ratios.items() if value > AIM]
        mib = [f.peak / 2**20 for f in (torch, referee)]
        above = [(f.peak - f.imports) / 2**20 for f in (torch, referee)]
        rows.append(
            [
                model,
                *(f"{1000 * f.seconds:.0f}" for f in (torch, referee)),
                f"{ratios['wall']:.2f}",
                *(f"{m:.0f}" for m in mib),
                f"{ratios['peak']:.2f}",
                *(f"{m:.0f}" for m in above),
                f"{above[1] / above[0]:.2f}",
            ]
        )
    header = ["model", "torch ms", "referee ms", "ratio", "torch MiB", "referee MiB", "ratio"]
    print_table([*header, "torch above imports", "referee above imports", "ratio"], rows)
    if options.check:
        progress(f"check {options.check}")
        wall, referee_s, all_s = cost_in_check(options.check)
        share = referee_s / wall
        print(
            f"\ncheck {options.check}: {wall:.1f} s wall, {referee_s:.1f} s of referee and noise: {share:.0%} of it"
            f" (aim {AIM_SHARE:.0%}); {referee_s / all_s:.0%} of the seconds of all jobs ({all_s:.1f} s)"
        )
        if share > AIM_SHARE:
            over.append(f"share of a check {share:.0%}")
    print(f"over the aim: {'; '.join(over) or 'none'}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
