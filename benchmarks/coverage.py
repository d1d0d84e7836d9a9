"""Which models of a zoo are loaded, converted and judged: every architecture family by its smallest member.

Each model is checked with random weights (``@seeded``), as ``onnxeq check ZOO:NAME@seeded`` does, those of
``digits`` with their trained ones. A family counts as covered when it reaches a verdict, whichever; each that does not
has its reason in the table.

    python benchmarks/coverage.py --zoo torchvision|timm|keras|tfmg|onnx-zoo|hf|digits [--all] [--only WORD]
        [--json FILE]

The smallest member is the one with the fewest parameters, counted without memory for them (torch's meta device) or, in
Keras, by building it; where nobody can say, the first of the list. ``--resume`` goes on with what ``--json`` holds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import print_table, progress

import onnxeq
from onnxeq.errors import EXIT_USAGE, ExportFailed, OnnxeqError
from onnxeq.types import Status, Verdict
from onnxeq.zoo import BROUGHT_ALONG

ASKED = 0.95
"""Of the families, how many are to reach a verdict."""

_COUNT = {
    "torchvision": """
from torchvision import models
def count(name):
    return models.get_model_weights(name).DEFAULT.meta["num_params"]
""",
    "timm": """
import timm, torch
def count(name):
    with torch.device("meta"):
        return sum(p.numel() for p in timm.create_model(name).parameters())
""",
    "keras": """
import keras
def count(name):
    return getattr(keras.applications, name)(weights=None).count_params()
""",
}
"""Zoo -> how its models' parameters are counted, in a process of its own."""

_LOADING = ("import", "load", "seed", "build", "read", "copy", "start")
"""Steps of the native job before anything is exported."""


@dataclass(frozen=True)
class Row:
    """What became of one model.

    Attributes:
        family: Its family.
        model: Its name.
        loads: Whether it was built, with its weights.
        converts: Whether it was exported.
        verdict: The report's; empty where there is none.
        seconds: Wall time of the check.
        reason: Why there is no verdict, or what the verdict rests on where it is not ``equivalent``.
    """

    family: str
    model: str
    loads: bool
    converts: bool
    verdict: str
    seconds: float
    reason: str


def listed(zoo: str) -> list[Mapping[str, str]]:
    """What ``onnxeq zoo list`` names."""
    command = [sys.executable, "-m", "onnxeq", "zoo", "list", zoo, "--json"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    if shown.returncode:
        raise SystemExit(shown.stderr.strip())
    entries: list[Mapping[str, str]] = json.loads(shown.stdout)["entries"]
    return entries


def sizes(zoo: str, names: Sequence[str]) -> dict[str, float]:
    """Model -> its parameters; infinite where it cannot be built so."""
    if zoo not in _COUNT or not names:
        return {}
    code = _COUNT[zoo] + (
        "import json, math, sys\nfound = {}\n"
        "for name in json.load(sys.stdin):\n"
        "    try:\n        found[name] = float(count(name))\n"
        "    except Exception:\n        found[name] = math.inf\n"
        "print('SIZES' + json.dumps(found))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(list(names)), capture_output=True, text=True, check=False
    )
    _, mark, text = shown.stdout.rpartition("SIZES")
    return dict(json.loads(text)) if mark else {}


def smallest(zoo: str, entries: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The smallest member of each family, families in the zoo's order."""
    families: dict[str, list[Mapping[str, str]]] = {}
    for entry in entries:
        families.setdefault(entry["family"] or entry["name"], []).append(entry)
    several = [e["name"] for members in families.values() if len(members) > 1 for e in members]
    counted = sizes(zoo, several)
    return [min(members, key=lambda e: counted.get(e["name"], math.inf)) for members in families.values()]


def tried(zoo: str, entry: Mapping[str, str], timeout_s: float) -> Row:
    """Checks one model."""
    began = time.perf_counter()
    name, family = entry["name"], entry["family"]
    weights = "" if zoo in BROUGHT_ALONG else "@seeded"
    try:
        report = onnxeq.check(f"{zoo}:{name}{weights}", batches=(1, 2), providers=["cpu"], timeout_s=timeout_s)
    except OnnxeqError as error:
        took = time.perf_counter() - began
        loads = isinstance(error, ExportFailed) or (
            bool(error.step) and not error.step.startswith(_LOADING) and error.exit_status != EXIT_USAGE
        )
        converts = loads and not isinstance(error, ExportFailed) and not error.step.startswith("export")
        return Row(family, name, loads, converts, "", took, error.line())
    reasons = [f"{c.cause.value} at {c.rung}: {c.evidence}" for c in report.causes]
    if report.verdict is Verdict.INCONCLUSIVE:
        reasons += [
            f"{r.name}: {r.reason}" for r in report.rungs if r.status is Status.NOT_RUN and r.name != "provider"
        ]
        reasons += report.notes
    seconds = time.perf_counter() - began
    return Row(family, name, True, True, report.verdict.value, seconds, (reasons or [""])[0])


def print_rows(rows: Sequence[Row]) -> None:
    """The table, and under it the reasons in full."""
    yes = {True: "yes", False: "no"}
    cells = [[r.family, r.model, yes[r.loads], yes[r.converts], r.verdict or "none", f"{r.seconds:.0f}"] for r in rows]
    print_table(["family", "model", "loads", "converts", "verdict", "s"], cells)
    for row in rows:
        if row.verdict != Verdict.EQUIVALENT.value:
            print(f"\n{row.model}: {row.verdict or 'no verdict'}: {row.reason}")
    reached = sum(bool(r.verdict) for r in rows)
    counts = ", ".join(f"{sum(r.verdict == v.value for r in rows)} {v.value}" for v in Verdict)
    print(f"\n{reached} of {len(rows)} reach a verdict ({reached / len(rows):.1%}, asked {ASKED:.0%}): {counts}")


def main() -> int:
    """Prints the table; 1 where too few reach a verdict."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--all", action="store_true", help="every model, not the smallest of each family")
    parser.add_argument("--only", default="", help="models or families whose name contains this")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for each job")
    parser.add_argument("--json", type=Path, help="store the rows here as they come")
    parser.add_argument("--resume", action="store_true", help="keep the rows that --json already holds")
    options = parser.parse_args()
    entries = listed(options.zoo)
    chosen = entries if options.all else smallest(options.zoo, entries)
    chosen = [e for e in chosen if options.only in e["name"] or options.only in e["family"]]
    if not chosen:
        raise SystemExit(f"{options.zoo} has nothing that contains '{options.only}'")
    rows: list[Row] = []
    if options.resume and options.json and options.json.exists():
        rows = [Row(**row) for row in json.loads(options.json.read_text())]
    done = {row.model for row in rows}
    for index, entry in enumerate(chosen, 1):
        if entry["name"] in done:
            continue
        rows.append(tried(options.zoo, entry, options.timeout))
        last = rows[-1]
        shown = f"{last.verdict or 'none':13}{last.seconds:6.0f} s  {last.model}  {last.reason[:120]}"
        progress(f"{index:4}/{len(chosen)} {shown}")
        if options.json:
            options.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
    print_rows(rows)
    return 0 if sum(bool(r.verdict) for r in rows) >= ASKED * len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
