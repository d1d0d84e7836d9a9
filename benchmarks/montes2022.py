"""The same architectures in several zoos, after Montes et al. (ESEC/FSE 2022, arXiv 2303.02551): what is different?

For every architecture that at least two zoos have, each two of its models are compared: architecture in words, size,
latency in their frameworks and in onnxruntime, and with ``--dataset`` accuracy and agreement.

    python benchmarks/montes2022.py [--all] [--zoos torchvision,keras,tfmg,onnx-zoo[,timm]] [--only WORD]
        [--seconds S] [--pretrained] [--dataset ...] [--results FILE.jsonl] [--write FILE.md]

By default the smallest member of each family is taken, of those that most of the zoos have, with seeded weights, for
which no network is needed: architecture and latency do not depend on the weights. ``--all`` takes every member.
``--results`` keeps each architecture as it is done; what stands there is not done again, so that an interrupted run
goes on. The zoo tfmg runs in an environment of its own (``onnxeq env create tfmg``).

Which names mean one architecture stands in ``montes2022_names.py``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import progress
from montes2022_names import ARCHITECTURES, FOUR, Named
from montes2022_table import markdown

import onnxeq
from onnxeq.compare.latency.statistics import half_width
from onnxeq.compare.values import Comparison, Pair
from onnxeq.errors import EXIT_INTERRUPTED, OnnxeqError
from onnxeq.report.progress import JobProgress

_MOST_SENTENCES = 3
"""Differences of a pair that are told, the most consequential first."""

_EXPECTED_S = 90.0
"""What an architecture is expected to take before one has been done: two or three exports, and the measuring."""


def catalogues(zoos: Sequence[str]) -> dict[str, set[str]]:
    """Zoo -> the names that are installed here; a zoo that cannot be listed has none, and that is told."""
    found = {}
    for zoo in zoos:
        command = [sys.executable, "-m", "onnxeq", "zoo", "list", zoo, "--json"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        if shown.returncode:
            progress(f"{zoo}: {shown.stderr.strip()}")
        found[zoo] = {e["name"] for e in json.loads(shown.stdout)["entries"]} if not shown.returncode else set()
    return found


def available(named: Named, there: Mapping[str, set[str]]) -> dict[str, str]:
    """Zoo -> name, of those zoos that are asked and have it."""
    return {zoo: name for zoo, name in named.names.items() if name in there.get(zoo, ())}


def chosen(there: Mapping[str, set[str]], *, every: bool, only: str) -> list[Named]:
    """The architectures that at least two zoos have: of each family the smallest of those that most zoos have, or all.

    Members stand in the table from small to large.
    """
    shared = [
        n for n in ARCHITECTURES if len(available(n, there)) >= 2 and only.lower() in f"{n.family} {n.name}".lower()
    ]
    if every:
        return shared
    families: dict[str, list[Named]] = {}
    for named in shared:
        families.setdefault(named.family, []).append(named)
    return [max(members, key=lambda n: len(available(n, there))) for members in families.values()]


def lacking(there: Mapping[str, set[str]]) -> list[str]:
    """Names of the table that an installed zoo does not have."""
    return [
        f"{zoo} has no {name} ({named.name})"
        for named in ARCHITECTURES
        for zoo, name in named.names.items()
        if there.get(zoo) and name not in there[zoo]
    ]


def reference(zoo: str, name: str, *, pretrained: bool) -> str:
    """What ``onnxeq compare`` is given."""
    return f"{zoo}:{name}{'' if pretrained else '@seeded'}"


def row_of(named: Named, refs: Sequence[str], found: Comparison, seconds: float) -> dict[str, Any]:
    """One architecture as it is kept: figures of each model, and each pair."""
    sides = {side.name: side for side in found.sides}
    latency = found.latency
    models = [
        {
            "name": side.name, "parameters": side.architecture.parameters, "macs": side.architecture.macs,
            "input": [list(shape) for shape in side.architecture.inputs],
            "ms": {f.of.runtime: f.median_ms for f in latency.figures if f.of.model == side.name} if latency else {},
        }
        for side in sides.values()
    ]  # fmt: skip
    return {
        "architecture": named.name, "family": named.family, "refs": list(refs), "models": models,
        "pairs": [_pair(found, pair) for pair in found.pairs],
        "failures": [f"{f.ref}: {f.reason}" for f in found.failures],
        "not_run": [f"{n.model} in {n.runtime}: {n.reason}" for n in latency.not_run] if latency else [],
        "notes": list(latency.notes) if latency else [],
        "width": max((half_width(r.interval) for r in latency.pairs), default=0.0) if latency else 0.0,
        "accuracy": _accuracy(found), "seconds": seconds,
        "versions": dict(found.environment["versions"]), "machine": dict(found.environment["machine"]),
        "envs": _environments(found),
    }  # fmt: skip


def _environments(found: Comparison) -> list[Any]:
    """The environments besides this one in which something ran."""
    known = found.environment
    return list(known.get("envs", [known["env"]] if "env" in known else []))


def _pair(found: Comparison, pair: Pair) -> dict[str, Any]:
    ratios = {}
    for r in found.latency.pairs if found.latency else ():
        if {r.left.model, r.right.model} == {pair.left, pair.right}:
            straight = r.left.model == pair.left
            held = (r.ratio, r.interval.low, r.interval.high)
            ratios[r.left.runtime] = {
                "ratio": held[0] if straight else 1 / held[0], "low": held[1] if straight else 1 / held[2],
                "high": held[2] if straight else 1 / held[1], "discrepancy": r.discrepancy,
            }  # fmt: skip
    return {
        "left": pair.left, "right": pair.right, "verdict": pair.same.value,
        "differences": [f"{d.topic.value}: {d.sentence}" for d in pair.differences[:_MOST_SENTENCES]],
        "more": max(0, len(pair.differences) - _MOST_SENTENCES), "ratios": ratios,
        "agreement": _agreement(found, pair),
    }  # fmt: skip


def _agreement(found: Comparison, pair: Pair) -> float | None:
    """The share of items for which both say the same class: labelled items where given, else the comparison's own."""
    for both in found.accuracy.pairs if found.accuracy is not None else ():
        if {both.left, both.right} == {pair.left, pair.right}:
            return both.agree / both.items
    split = pair.function
    if split is None or split.total.top1_changes is None:
        return None
    return 1 - split.total.top1_changes / split.inputs


def _accuracy(found: Comparison) -> dict[str, float]:
    """Model -> the share of the items that it gets right."""
    return {m.model: m.top1.value for m in found.accuracy.measured} if found.accuracy is not None else {}


def compared(named: Named, refs: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """One architecture done; an error is told in its row, and the others go on."""
    from rich.console import Console

    began = time.perf_counter()
    parts = ["architecture", "latency", *(["accuracy"] if options.dataset else [])]
    parts += ["function"] if options.pretrained else []  # drawn weights are not meant to agree
    try:
        with JobProgress(Console(stderr=True), quiet=not sys.stderr.isatty()) as listener:
            found = onnxeq.compare(
                *refs, parts=parts, seconds=options.seconds, timeout_s=options.timeout, dataset=options.dataset,
                listener=listener,
            )  # fmt: skip
    except OnnxeqError as error:
        return {
            "architecture": named.name, "family": named.family, "refs": list(refs), "models": [], "pairs": [],
            "failures": [error.line()], "seconds": time.perf_counter() - began,
        }  # fmt: skip
    return row_of(named, refs, found, time.perf_counter() - began)


def stored(path: Path | None) -> list[dict[str, Any]]:
    """The rows that a file holds; a last line that was cut off is left out."""
    rows: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path is not None and path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            progress(f"{path}: a line that is no JSON is left out")
    return rows


def keep(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a row, on a line of its own whatever the last one looks like."""
    before = path.read_text() if path.exists() else ""
    with path.open("a") as file:
        file.write(f"{'' if before.endswith(chr(10)) or not before else chr(10)}{json.dumps(row)}\n")


def run(todo: Sequence[tuple[Named, list[str]]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows, the stored ones among them; says how far it has come and how long the rest will take."""
    kept = {(row["architecture"], *row["refs"]): row for row in stored(options.results)}
    rows = [kept[key] for named, refs in todo if (key := (named.name, *refs)) in kept]
    left = [(named, refs) for named, refs in todo if (named.name, *refs) not in kept]
    took: list[float] = []
    for index, (named, refs) in enumerate(left, 1):
        each = sum(took) / len(took) if took else _EXPECTED_S
        rest = each * (len(left) - index + 1) / 60
        progress(f"{index}/{len(left)} {named.name}: {', '.join(refs)} (about {rest:.0f} minutes left)")
        row = compared(named, refs, options)
        took.append(row["seconds"])
        rows.append(row)
        for reason in row["failures"]:
            progress(f"    {reason}")
        if options.results is not None:
            keep(options.results, row)
    order = {(named.name, *refs): place for place, (named, refs) in enumerate(todo)}
    return sorted(rows, key=lambda row: order[row["architecture"], *row["refs"]])


def main() -> int:
    """Prints the table, or writes it; 1 where an architecture could not be compared at all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every member of a family, not the smallest")
    parser.add_argument("--zoos", default=",".join(FOUR), help="add timm or hf with a comma")
    parser.add_argument("--only", default="", help="families or architectures whose name contains this")
    parser.add_argument("--seconds", type=float, default=20.0, help="measuring time for each architecture")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for each job")
    parser.add_argument("--pretrained", action="store_true", help="the zoos' own weights, where they can be had")
    parser.add_argument("--dataset", default="", help="labelled items, as onnxeq compare --dataset takes them")
    parser.add_argument("--results", type=Path, help="keep the rows here, and go on from what stands there")
    parser.add_argument("--write", type=Path, help="write the table here instead of printing it")
    options = parser.parse_args()
    there = catalogues(options.zoos.split(","))
    for line in lacking(there):
        progress(f"not in this installation: {line}")
    todo = [
        (named, [reference(z, n, pretrained=options.pretrained) for z, n in available(named, there).items()])
        for named in chosen(there, every=options.all, only=options.only)
    ]
    if not todo:
        raise SystemExit(f"no two of {options.zoos} share an architecture that contains '{options.only}'")
    try:
        rows = run(todo, options)
    except KeyboardInterrupt:
        progress("interrupted" + (f"; what is done stands in {options.results}" if options.results else ""))
        return EXIT_INTERRUPTED
    text = markdown(rows, seeded=not options.pretrained)
    if options.write is not None:
        options.write.write_text(text)
    else:
        print(text, end="")
    return 0 if all(row["pairs"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
