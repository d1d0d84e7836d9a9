"""Runs model.onnx on inputs.npz in onnxruntime and holds the result against expected.npz.

    python repro.py                 # exit status 1 while the fault shows, 0 when it does not, 3 if it could not be run
    python repro.py OTHER.onnx      # the same with another model: a mended one, say

Needs numpy and onnxruntime. Errors are given in units of rounding noise, which expected.npz holds for each element.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import onnxruntime
except ImportError as error:
    print(f"could not be run: {error}", file=sys.stderr)
    raise SystemExit(3) from None

TITLE = "A fault of one layer"
OUTPUT = "y"
LIMIT = 8.0
PROVIDER = "CPUExecutionProvider"
PROVIDER_OPTIONS: dict[str, Any] = {}
LEVEL = "ORT_ENABLE_ALL"
DISABLED_PASSES: list[str] = []
SESSION_OPTIONS: dict[str, Any] = {}

FOLDER = Path(__file__).resolve().parent


def run(model: Path) -> Any:
    """What onnxruntime gives, with the settings at fault."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVEL)
    for name, value in SESSION_OPTIONS.items():
        setattr(options, name, value)
    providers: list[Any] = [PROVIDER]
    if PROVIDER != "CPUExecutionProvider":
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        providers = [(PROVIDER, PROVIDER_OPTIONS), "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(
        str(model), options, providers=providers, disabled_optimizers=DISABLED_PASSES
    )
    if PROVIDER not in session.get_providers():
        raise RuntimeError(f"{PROVIDER} did not start")
    with np.load(FOLDER / "inputs.npz", allow_pickle=False) as inputs:
        return session.run([OUTPUT], {name: inputs[name] for name in inputs.files})[0]


def expected() -> tuple[Any, Any]:
    """What should come out, and one noise unit for each element of it."""
    # What a source gave is a recording. Where its own operator is at fault, that may be run here in its place.
    with np.load(FOLDER / "expected.npz", allow_pickle=False) as held:
        return held[OUTPUT], held[f"{OUTPUT} unit"]


def error_in_units(right: Any, given: Any, unit: Any) -> float:
    """The larger of the root mean square and the largest error, over elements of similar magnitude, in noise units.

    With errors e and units s of n elements, m of which carry the units' energy:
    max( rms(e)/rms(s)/(1 + 3/sqrt(m)), max(e/t)/(2*sqrt(2*ln(2n))) ), t^2 = (s^2 + rms(s)^2)/2.
    """
    if right.shape != given.shape:
        return math.inf
    if right.dtype.kind != "f":
        return discrete(right != given, np.square(unit))
    given = given.astype(np.float64)
    if (np.isnan(right) != np.isnan(given)).any():
        return math.inf
    infinite = np.isinf(right) | np.isinf(given)
    if (infinite & (right != given)).any():
        return math.inf
    usable = np.isfinite(right) & np.isfinite(given)
    error = np.abs(np.where(usable, given, 0.0) - np.where(usable, right, 0.0))
    squares = np.where(usable, np.square(unit), 0.0)
    groups = [usable] if usable.any() else []
    if right.size >= 128:
        octave = np.frexp(right)[1] // 6
        alike = [usable & (octave == o) & (right != 0) for o in np.unique(octave[usable])]
        groups += [group for group in alike if 64 <= group.sum() < usable.sum()]
    return max((ratio(error[group], squares[group]) for group in groups), default=0.0)


def ratio(error: Any, squares: Any) -> float:
    """The error of one group of elements; ``squares`` are those of its units."""
    if not error.any():
        return 0.0
    mean = float(squares.sum()) / error.size
    if mean == 0.0:
        return math.inf
    share = squares / squares.max()
    carrying = float(share.sum()) ** 2 / float(np.square(share).sum())
    whole = math.sqrt(float(np.square(error).sum()) / error.size / mean) / (1 + 3 / math.sqrt(carrying))
    single = float((error / np.sqrt((squares + mean) / 2)).max()) / (2 * math.sqrt(2 * math.log(2 * error.size)))
    return max(whole, single)


def discrete(different: Any, share: Any) -> float:
    """Zero when rounding alone flips as many elements, else infinite; ``share`` of the draws flips each."""
    count = int(different.sum())
    uncovered = int((different & (share == 0)).sum())
    allowed = 0 if different.size < 64 else count // 2
    rounding = uncovered <= allowed and count <= max(1.0, 2 * float(share.sum())) and share.any()
    return 0.0 if not count or rounding else math.inf


def largest(right: Any, given: Any) -> float:
    """The largest absolute difference, where there are numbers."""
    if right.shape != given.shape or right.dtype.kind not in "fiub":
        return math.nan
    difference = np.abs(given.astype(np.float64) - right.astype(np.float64))
    return float(np.max(difference, initial=0.0, where=np.isfinite(difference)))


def main() -> int:
    """Prints the error; the exit status."""
    print(TITLE)
    print(f"onnxruntime {onnxruntime.__version__}, numpy {np.__version__}, {PROVIDER}, {LEVEL}")
    try:
        right, unit = expected()
        given = np.asarray(run(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "model.onnx"))
    except Exception as error:  # onnxruntime's exceptions share no base class
        print(f"could not be run: {error}", file=sys.stderr)
        return 3
    with np.errstate(all="ignore"):
        units = error_in_units(right, given, unit)
        shows = units > LIMIT
        verdict = "DIVERGES" if shows else "agrees"
        print(f"max abs {largest(right, given):.3g}, {units:.3g} units (limit {LIMIT:g}): {verdict}")
    return int(shows)


if __name__ == "__main__":
    raise SystemExit(main())
