"""The Markdown that ``montes2022.py`` writes of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["markdown"]

_HEADER = (
    "architecture", "models", "verdict", "parameters", "MACs", "native", "onnxruntime", "agreement", "differences",
)  # fmt: skip

_INTRODUCTION = """# The same architecture in several zoos

After Montes et al., "Discrepancies among Pre-trained Deep Neural Networks: A New Threat to Model Zoo Reliability"
(ESEC/FSE 2022, arXiv 2303.02551). Written by `benchmarks/montes2022.py`.

Latency: how many times as long the first model takes as the second, a batch of one, each in its own framework and in
onnxruntime on the CPU, with a 95 % interval; **bold** where the interval excludes 1 and the ratio is beyond 5 %.
"""


def markdown(rows: Sequence[Mapping[str, Any]], *, seeded: bool) -> str:
    """The whole document.

    Args:
        rows: As :func:`montes2022.row_of` makes them.
        seeded: Whether weights were drawn, which is said.
    """
    lines = [_INTRODUCTION]
    if seeded:
        lines += ["Weights are drawn with a seed: architecture and latency do not depend on them.", ""]
    lines += [f"| {' | '.join(_HEADER)} |", f"|{'---|' * len(_HEADER)}"]
    lines += [f"| {' | '.join(map(_cell, _row(row, pair)))} |" for row in rows for pair in row["pairs"]]
    lines += ["", *_summary(rows), "", *_times(rows)]
    told = [f"- {row['architecture']}: {text}" for row in rows for text in _reasons(row)]
    lines += ["## What could not be had or run", "", *told, ""] if told else []
    lines += _ground(rows)
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _row(row: Mapping[str, Any], pair: Mapping[str, Any]) -> tuple[str, ...]:
    models = {m["name"]: m for m in row["models"]}
    left, right = models[pair["left"]], models[pair["right"]]
    more = f"; {pair['more']} more" if pair["more"] else ""
    agreement = "" if pair["agreement"] is None else f"{pair['agreement']:.1%}"
    return (
        row["architecture"], f"{_named(row, pair['left'])}, {_named(row, pair['right'])}", pair["verdict"],
        _both(left["parameters"], right["parameters"], 1e6, "M"), _both(left["macs"], right["macs"], 1e9, "G"),
        _ratio(pair, "native"), _ratio(pair, "ort/cpu"), agreement, "; ".join(pair["differences"]) + more,
    )  # fmt: skip


def _named(row: Mapping[str, Any], name: str) -> str:
    """With the accuracy, where it was measured."""
    right = row.get("accuracy", {}).get(name)
    return name if right is None else f"{name} ({right:.1%})"


def _both(left: int, right: int, unit: float, sign: str) -> str:
    if left == right:
        return f"{left / unit:.3f} {sign}"
    return f"{left / unit:.3f} {sign} / {right / unit:.3f} {sign}"


def _ratio(pair: Mapping[str, Any], runtime: str) -> str:
    held = pair["ratios"].get(runtime)
    if held is None:
        return ""
    text = f"{held['ratio']:.2f} ({held['low']:.2f} to {held['high']:.2f})"
    return f"**{text}**" if held["discrepancy"] else text


def _summary(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    pairs = [pair for row in rows for pair in row["pairs"]]
    if not pairs:
        return []
    lines = [f"{len(rows)} architectures, {len(pairs)} pairs, of which"]
    for verdict in dict.fromkeys(p["verdict"] for p in pairs):
        lines.append(f"- {verdict}: {sum(p['verdict'] == verdict for p in pairs)}")
    for runtime in ("native", "ort/cpu"):
        held = [p["ratios"][runtime] for p in pairs if runtime in p["ratios"]]
        beyond = [max(h["ratio"], 1 / h["ratio"]) for h in held if h["discrepancy"]]
        if held:
            worst = f", by up to {max(beyond) - 1:.0%}" if beyond else ""
            lines.append(f"- another latency in {runtime}: {len(beyond)} of {len(held)}{worst}")
    return lines


def _times(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each model's own milliseconds."""
    header = ("model", "native ms", "onnxruntime ms", "input")
    lines = ["## Medians", "", f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for row in rows:
        for m in row["models"]:
            ms = [f"{m['ms'][r]:.1f}" if r in m["ms"] else "" for r in ("native", "ort/cpu")]
            shapes = ", ".join("x".join(map(str, shape)) for shape in m["input"])
            lines.append(f"| {m['name']} | {ms[0]} | {ms[1]} | {shapes} |")
    return [*lines, ""]


def _reasons(row: Mapping[str, Any]) -> list[str]:
    return [*row["failures"], *row.get("not_run", ()), *row.get("notes", ())]


def _ground(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Versions and machine, each once."""
    lines = ["## Versions and machine", ""]
    machines = dict.fromkeys(", ".join(f"{k} {v}" for k, v in r["machine"].items()) for r in rows if "machine" in r)
    versions = dict.fromkeys(", ".join(f"{k} {v}" for k, v in r["versions"].items()) for r in rows if "versions" in r)
    environments = dict.fromkeys(
        f"environment {e['name']}: {', '.join(f'{k} {v}' for k, v in e['versions'].items())}"
        for r in rows
        for e in r.get("envs", ())
    )
    lines += [f"- {text}" for text in (*machines, *versions, *environments)]
    widths = [row["width"] for row in rows if row.get("width")]
    spent = sum(row["seconds"] for row in rows) / 60
    lines.append(f"- {spent:.0f} minutes in all")
    if widths:
        lines.append(
            f"- half width of the widest interval of a ratio, median over the architectures: {_middle(widths):.1%}"
        )
    return lines


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
