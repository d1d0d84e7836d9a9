"""Whether the ratios of latencies hold from one run to the next: the same comparison several times over.

Each run loads the models anew, in processes of its own. Printed is every ratio of two models and of a model's runtimes,
in each run, and how far the largest is above the smallest. It exits with 1 where that is beyond 10 % for two models.

    python benchmarks/latency.py [--models REF,REF,...] [--runs 5] [--seconds 60] [--batch 1] [--noise]

``--noise`` has a process beside it that keeps one core busy half of the time, in bursts of 20 ms to 500 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from common import print_table, progress

import onnxeq
from onnxeq.compare.latency.values import Latency, Ratio

ALLOWED = 0.10
"""By how much the largest ratio of two models may exceed the smallest."""

_MODELS = "torchvision:resnet18@seeded,torchvision:mobilenet_v2@seeded,torchvision:squeezenet1_1@seeded"

_NOISE = """
import os, random, time
draw, owner = random.Random(0), os.getppid()
while os.getppid() == owner:
    end = time.monotonic() + draw.uniform(0.02, 0.5)
    while time.monotonic() < end:
        sum(range(1000))
    time.sleep(draw.uniform(0.02, 0.5))
"""


def spread(ratios: Sequence[float]) -> float:
    """By which share the largest exceeds the smallest: ``max / min - 1``; infinite where one is missing."""
    if any(math.isnan(r) for r in ratios) or not ratios:
        return math.inf
    return max(ratios) / min(ratios) - 1


@contextlib.contextmanager
def noise(wanted: bool) -> Iterator[None]:
    """Another process on this machine's cores, as long as the block lasts."""
    if not wanted:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", _NOISE])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _key(ratio: Ratio) -> tuple[str, str]:
    """What a ratio is of: the models, and where."""
    a, b = ratio.left, ratio.right
    if a.model == b.model:
        return a.model, f"{a.runtime} / {b.runtime}, batch {a.batch}"
    return f"{a.model} / {b.model}", f"{a.runtime}, batch {a.batch}"


def table(runs: Sequence[Latency]) -> list[tuple[tuple[str, str], bool, list[float]]]:
    """For each ratio what it is of, whether it is one of two models, and its value in each run (NaN: not measured)."""
    rows: dict[tuple[str, str], tuple[bool, list[float]]] = {}
    for index, run in enumerate(runs):
        for ratio in (*run.pairs, *run.runtimes):
            two = ratio.left.model != ratio.right.model
            rows.setdefault(_key(ratio), (two, [math.nan] * len(runs)))[1][index] = ratio.ratio
    return [(key, two, values) for key, (two, values) in rows.items()]


def main() -> int:
    """Prints the table; 1 where a ratio of two models spreads beyond what is allowed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=_MODELS, help="references, with commas between them")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="measuring time of each run")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--noise", action="store_true", help="another process beside it")
    options = parser.parse_args()
    runs: list[Latency] = []
    with noise(options.noise):
        for index in range(options.runs):
            found = onnxeq.compare(
                *options.models.split(","), parts=["latency"], batches=(options.batch,), seconds=options.seconds
            ).latency
            assert found is not None
            runs.append(found)
            progress(f"{index + 1}/{options.runs}: {found.seconds:.0f} s, ratios within {found.width:.1%}")
            for failure in found.not_run:
                progress(f"        {failure.model} {failure.runtime}: {failure.reason}")
    rows = table(runs)
    header = ["ratio", "in", *(f"run {i + 1}" for i in range(len(runs))), "spread"]
    print_table(header, [[*key, *(f"{v:.3f}" for v in values), f"{spread(values):.1%}"] for key, _, values in rows])
    worst = max((spread(values) for _, two, values in rows if two), default=math.inf)
    load = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    print(f"\nlargest spread of a ratio of two models: {worst:.1%} (allowed {ALLOWED:.0%}){load}")
    return 0 if worst <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
