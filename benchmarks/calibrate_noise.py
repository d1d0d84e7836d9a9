"""What the factors of ``onnxeq.ladder.LIMITS`` are read from: the ratios of every rung on known-good combinations.

A combination is an architecture, its exporter, an opset, a runtime at an optimisation level, and a batch size. Each
check covers several (``common.Case``): onnxruntime runs the artifact as it is (kernels) and optimised (optimizer,
lowering, stability) at each batch size, beside the framework's own float32 run (native-rounding). A rung's ratio is
the largest over the batch sizes of a check, as a report gives it.

    python benchmarks/calibrate_noise.py [--json FILE] [--only WORD]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cases import CALIBRATION, REAL
from common import Outcome, by_rung, print_table, progress, quantile, run_cases, save, worst_case

from onnxeq.ladder import LIMITS

FEWEST = 60
"""Combinations below which a calibration says nothing."""


def table(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """One row per rung: how its ratios are distributed, and what stands in ``LIMITS``."""
    rows = []
    for name, samples in by_rung(outcomes).items():
        factor = LIMITS[name].factor
        # The sharp limit counts float64 roundings, another unit: its ratios say nothing about the factor.
        for title, some in (
            (f"{name} (float64)", [s for s in samples if s.limit > factor]),
            (name, [s for s in samples if s.limit <= factor]),
        ):
            if some:
                rows.append(_row(title, [s.ratio for s in some], some[0].limit, worst_case(outcomes, some)))
    return rows


def _row(name: str, ratios: list[float], factor: float, worst: str) -> list[str]:
    largest = ratios[-1]
    room = f"{factor / largest:.1f}" if largest > 0 else "-"
    figures = [*(quantile(ratios, share) for share in (0.5, 0.9, 0.99)), largest]
    return [name, str(len(ratios)), *(f"{f:.2f}" for f in figures), f"{factor:g}", room, worst]


HEADER = ["rung", "samples", "median", "90 %", "99 %", "maximum", "limit", "head-room", "largest of"]


def main() -> int:
    """Prints the table; 1 when a model was not found equivalent, or too few combinations ran."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="also store the raw ratios")
    parser.add_argument("--only", default="", help="cases whose label contains this")
    options = parser.parse_args()
    if not REAL.is_dir():
        progress(f"no trained models: {REAL} does not exist (set ONNXEQ_REAL_MODELS)")
    outcomes = run_cases([c for c in CALIBRATION if options.only.lower() in c.label.lower()])
    if options.json:
        save(options.json, outcomes)
    print_table(HEADER, table(outcomes))
    alarms = [o for o in outcomes if not o.healthy]
    count = sum(o.combinations for o in outcomes)
    print(f"\n{count} combinations in {len(outcomes)} checks, {sum(o.seconds for o in outcomes) / 60:.1f} minutes")
    for outcome in alarms:
        print(f"not equivalent: {outcome.case}: {outcome.verdict}: {'; '.join(outcome.said)}")
    if count < FEWEST:
        print(f"at least {FEWEST} combinations are needed")
    return 1 if alarms or count < FEWEST else 0


if __name__ == "__main__":
    sys.exit(main())
