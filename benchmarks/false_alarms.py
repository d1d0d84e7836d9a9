"""How often a healthy conversion is called otherwise: the calibration set, and as many cases that no factor has seen.

A false alarm is any verdict but ``equivalent``: a broken rung, a doubt, a rung that did not run, an error. None is
wanted.

    python benchmarks/false_alarms.py [--json FILE of calibrate_noise.py] [--held-out FILE]
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from cases import CALIBRATION, HELD_OUT, REAL
from common import Outcome, Sample, by_rung, print_table, progress, run_cases, save, stored

EDGES = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, float("inf"))
"""Of the histogram's bins: shares of the limit, an upper edge belongs to its bin."""


def histogram(samples: Sequence[Sample]) -> list[int]:
    """How many samples fall into each bin of :data:`EDGES`; the first bin holds those that agree exactly."""
    shares = [s.ratio / s.limit for s in samples]
    inner = [sum(low < share <= high for share in shares) for low, high in itertools.pairwise(EDGES)]
    return [sum(share == 0 for share in shares), *inner]


def print_histogram(outcomes: Sequence[Outcome]) -> None:
    """Ratios by rung, as shares of the limit that each was held against."""
    rungs = by_rung(outcomes)
    rows = [[name, *(str(c) if c else "." for c in histogram(samples))] for name, samples in rungs.items()]
    labels = [f"to 1/{round(1 / edge)}" if edge < 1 else "to 1" for edge in EDGES[1:-1]]
    print_table(["ratio / limit", "equal", *labels, "over"], rows)


def main() -> int:
    """Prints the count and the distribution; 1 when there is a false alarm, or too few held-out combinations."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="outcomes of calibrate_noise.py, so that they are not run again")
    parser.add_argument("--held-out", type=Path, help="store the held-out outcomes here")
    options = parser.parse_args()
    if not REAL.is_dir():
        progress(f"no trained models: {REAL} does not exist (set ONNXEQ_REAL_MODELS)")
    seen = stored(options.json) if options.json else run_cases(CALIBRATION)
    unseen = run_cases(HELD_OUT)
    if options.held_out:
        save(options.held_out, unseen)
    alarms = 0
    rows = []
    for name, outcomes in (("calibration", seen), ("held out", unseen)):
        raised = [o for o in outcomes if not o.healthy or o.failing]
        alarms += len(raised)
        rows.append([name, str(len(outcomes)), str(sum(o.combinations for o in outcomes)), str(len(raised))])
    print_table(["set", "checks", "combinations", "false alarms"], rows)
    print()
    print_histogram([*seen, *unseen])
    for outcome in (*seen, *unseen):
        if not outcome.healthy or outcome.failing:
            print(f"\nfalse alarm: {outcome.case}: {outcome.verdict}: {'; '.join(outcome.said)}")
    few = sum(o.combinations for o in unseen) < sum(o.combinations for o in seen)
    if few:
        print("\nfewer combinations are held out than were calibrated on")
    print(f"\nfalse alarms: {alarms} (wanted: 0)")
    return 1 if alarms or few else 0


if __name__ == "__main__":
    sys.exit(main())
