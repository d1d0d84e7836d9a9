"""The two texts of a repro: the script, and what a bug tracker is told. Neither names a place on this machine."""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.printer

from onnxeq.layers.probes import GraphIndex
from onnxeq.protocols import SessionOptions
from onnxeq.referee.elements import element_name
from onnxeq.referee.plan import node_label
from onnxeq.repro.cutting import moving_nodes
from onnxeq.repro.values import AtFault, Fault, Repro

__all__ = ["culprit", "graph_text", "public_reference", "report_text", "script_text", "title"]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_FEW = 8
"""Elements up to which a constant is shown with its values: axes, shapes, scales."""

_MOST_LINES = 200


def title(fault: Fault, repro: Repro) -> str:
    """The fault in a line."""
    nodes = moving_nodes(repro.case.model)
    operators = " + ".join(dict.fromkeys(node.op_type for node in nodes)) or fault.layer.op_type
    place = f"{operators} at '{culprit(fault, repro)[1]}'"
    if fault.side is AtFault.SOURCE:
        theirs = public_reference(fault.reference) or "the source"
        layer = f" in '{fault.layer.native}'" if fault.layer.native else ""
        return f"{place}: the ONNX nodes do not give what {theirs} gives{layer}"
    versions = fault.versions
    version = versions.get("onnxruntime-gpu") or versions.get("onnxruntime", "")
    runtime = " ".join(filter(None, ("onnxruntime", version, fault.options.provider.upper())))
    if repro.shows and math.isfinite(repro.measure.ratio):
        return f"{runtime}: {place} is {repro.measure.ratio:.3g} units of rounding noise off"
    return f"{runtime}: {place} is off by more than rounding"


def culprit(fault: Fault, repro: Repro) -> tuple[str, str]:
    """Operator and label of the node that makes the wrong value, in what is left of the region."""
    maker = GraphIndex(repro.case.model).makers.get(repro.case.output)
    return (fault.layer.op_type, fault.layer.node) if maker is None else (maker.op_type, node_label(maker))


def public_reference(text: str) -> str:
    """A model reference without the folders of this machine: ``/home/me/net.pt2`` becomes ``net.pt2``."""
    return re.sub(r"(^|@)(?:~|\.{0,2}|[A-Za-z]:)[/\\](?:[^/\\@]*[/\\])*", r"\1", text)


def _without_paths(text: str, base_dir: Path | None) -> str:
    """A sentence without the folders of this machine."""
    text = re.sub(r"[^\s'\"]*[/\\](?=model\.onnx)", "", text)
    roots = {str(p) for p in (base_dir, Path.cwd(), Path.home(), Path(tempfile.gettempdir())) if p is not None}
    for root in sorted(roots, key=len, reverse=True):
        text = text.replace(root.rstrip(os.sep) + os.sep, "") if len(root) > 1 else text
    return text


def script_text(fault: Fault, repro: Repro) -> str:
    """``repro.py``: the template with this fault's settings in the place of its own."""
    text = Path(__file__).with_name("template.py").read_text(encoding="utf-8")
    for name, value in _constants(fault, repro).items():
        line = re.compile(rf"^({name}(?:: [^=\n]+)?) = .*$", re.MULTILINE)
        text, count = line.subn(lambda found, value=value: f"{found[1]} = {value!r}", text)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the template sets {name} {count} times")
    return text


def _constants(fault: Fault, repro: Repro) -> dict[str, Any]:
    options = fault.options
    return {
        "TITLE": title(fault, repro),
        "OUTPUT": repro.case.output,
        "LIMIT": float(repro.case.limit),
        "PROVIDER": _PROVIDERS[options.provider],
        "PROVIDER_OPTIONS": _provider_options(options),
        "LEVEL": _level(options),
        "DISABLED_PASSES": list(options.settings.get("disabled_passes", ())),
        "SESSION_OPTIONS": _session_options(options),
    }


def _level(options: SessionOptions) -> str:
    return str(options.settings.get("level", "ORT_ENABLE_ALL" if options.optimize else "ORT_DISABLE_ALL"))


def _provider_options(options: SessionOptions) -> dict[str, Any]:
    if options.provider != "cuda":
        return {}
    own = {k.removeprefix("cuda."): v for k, v in options.settings.items() if k.startswith("cuda.")}
    return {"use_tf32": int(options.tf32), **own}


def _session_options(options: SessionOptions) -> dict[str, Any]:
    found: dict[str, Any] = {"intra_op_num_threads": options.threads} if options.threads else {}
    for key, value in options.settings.items():
        if key.startswith("enable_"):
            found[key] = str(value) in ("True", "1")
        elif key == "intra_op_num_threads":
            found[key] = int(value)
    return found


def report_text(fault: Fault, repro: Repro) -> str:
    """``REPORT.md``."""
    parts = [f"# {title(fault, repro)}", _what_is_wrong(fault, repro), _table(_figures(fault, repro))]
    if fault.note:
        parts.append(_without_paths(fault.note, fault.base_dir))
    parts += ["## How to reproduce", _how(fault, repro)]
    parts += ["## The graph", f"```\n{graph_text(repro.case.model)}\n```"]
    parts += ["## Versions", _table(_versions(fault))]
    return "\n\n".join(parts) + "\n"


def _what_is_wrong(fault: Fault, repro: Repro) -> str:
    theirs = public_reference(fault.reference) or "the source"
    if fault.side is AtFault.TARGET:
        said = (
            "On the inputs in `inputs.npz`, onnxruntime does not give what the nodes of `model.onnx` give in float64"
            " (`expected.npz`), by more than float32 rounding explains."
        )
    else:
        said = (
            f"The nodes of `model.onnx` stand for a layer of {theirs}. On the inputs in `inputs.npz`, which are what"
            " that layer was given, they do not give what it gave (`expected.npz`), by more than float32 rounding"
            " explains. Either the conversion has changed the graph or its weights, or the source's own operator is"
            " wrong."
        )
    if repro.refused:
        return f"{said} Here the runtime refused the cut graph: {_without_paths(repro.refused, fault.base_dir)}"
    if repro.seen is not None and not repro.shows:
        said += (
            " **In this graph alone the fault does not show on the machine that wrote it**: it depends on the nodes"
            " around, on the machine, or comes and goes."
        )
    return said


def _figures(fault: Fault, repro: Repro) -> list[tuple[str, str]]:
    layer = fault.layer
    rows = []
    if repro.seen is not None:
        rows += [
            ("largest absolute error", f"{repro.measure.max_abs:.4g}"),
            ("in units of rounding noise", f"{repro.measure.ratio:.4g}, at most {repro.case.limit:g} are rounding"),
        ]
        rows += [("", repro.measure.problem)] if repro.measure.problem else []
        rows += _worst_element(repro)
    rows.append(
        ("in the whole model: the layer's own error", f"{layer.local.ratio:.4g} units ({layer.local.max_abs:.4g})")
    )
    rows.append(("of it the source's", f"{layer.source_ratio:.4g} units"))
    rows.append(("of it the target's", f"{layer.target_ratio:.4g} units"))
    return rows


def _worst_element(repro: Repro) -> list[tuple[str, str]]:
    case, seen = repro.case, repro.seen
    if seen is None or seen.shape != case.right.shape or not seen.size:
        return []
    if case.right.dtype.kind == "f":
        with np.errstate(all="ignore"):
            error = np.nan_to_num(np.abs(seen.astype(np.float64) - case.right), nan=np.inf)
            error = np.where(np.isnan(seen) & np.isnan(case.right), 0.0, error / np.maximum(case.whole_unit(), 1e-300))
    else:
        error = np.asarray(seen != case.right, dtype=np.float64)
    where = np.unravel_index(int(np.argmax(error)), error.shape)
    place = f"'{case.output}'{[int(i) for i in where]}"
    return [(f"expected {place}", _number(case.right[where])), (f"seen {place}", _number(seen[where]))]


def _number(value: Any) -> str:
    return f"{float(value):.9g}" if np.asarray(value).dtype.kind in "fiub" else repr(str(value))


def _how(fault: Fault, repro: Repro) -> str:
    settings = [f"{_PROVIDERS[fault.options.provider]}", _level(fault.options)]
    if disabled := fault.options.settings.get("disabled_passes"):
        settings.append(f"without {', '.join(disabled)}")
    settings += [f"{k}={v}" for k, v in {**_session_options(fault.options), **_provider_options(fault.options)}.items()]
    lines = [
        "```",
        "pip install numpy onnxruntime",
        "python repro.py",
        "```",
        "",
        f"It runs `model.onnx` with {', '.join(settings)}, prints the error and ends with status 1 while the fault"
        " shows, with 0 when it does not; `python repro.py OTHER.onnx` tries another model. `test_data_set_0` holds"
        " the inputs and the expected output in ONNX's own form.",
    ]
    if repro.steps:
        layer = [fault.layer.node, *fault.layer.region]
        lines += ["", f"The graph was cut around {', '.join(layer)}. Left out, since the fault shows without it:", ""]
        lines += [f"- {step}" for step in repro.steps]
    return "\n".join(lines)


def _versions(fault: Fault) -> list[tuple[str, str]]:
    rows = dict(fault.versions)
    if "onnxeq" not in rows:
        try:
            rows = {"onnxeq": metadata.version("onnxeq"), **rows}
        except metadata.PackageNotFoundError:
            rows = dict(rows)
    return [*rows.items(), *fault.machine.items()]


def _table(rows: Sequence[tuple[str, str]]) -> str:
    shown = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join(["| | |", "|---|---|", *(f"| {' | '.join(row)} |" for row in shown)])


def graph_text(model: onnx.ModelProto) -> str:
    """The graph in ONNX's text form; of constants of more than eight elements type and shape only."""
    shown = onnx.ModelProto(ir_version=model.ir_version)
    shown.opset_import.extend(model.opset_import)
    shown.graph.name = model.graph.name
    shown.graph.input.extend(model.graph.input)
    shown.graph.output.extend(model.graph.output)
    shown.graph.initializer.extend(t for t in model.graph.initializer if _count(t) <= _FEW)
    shown.graph.node.extend(model.graph.node)
    shown.functions.extend(model.functions)
    for node in (*shown.graph.node, *(n for f in shown.functions for n in f.node)):
        _shorten(node)
    large = [t for t in model.graph.initializer if _count(t) > _FEW]
    large += [s.values for s in model.graph.sparse_initializer]
    lines = [*onnx.printer.to_text(shown).strip().splitlines(), *(f"# {_described(t)} {t.name}" for t in large)]
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"# ... {len(lines) - _MOST_LINES} more lines"]
    return "\n".join(lines)


def _shorten(node: onnx.NodeProto) -> None:
    """Puts descriptions in the place of the large tensors in a node and its sub-graphs."""
    for attribute in node.attribute:
        if attribute.HasField("t") and _count(attribute.t) > _FEW:
            text = onnx.helper.make_attribute(attribute.name, _described(attribute.t))
            attribute.CopyFrom(text)
        for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            kept = [t for t in graph.initializer if _count(t) <= _FEW]
            gone = [t for t in graph.initializer if _count(t) > _FEW]
            graph.input.extend(onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in gone)
            small: Mapping[str, onnx.TensorProto] = {t.name: t for t in kept}
            del graph.initializer[:]
            graph.initializer.extend(small.values())
            for inner in graph.node:
                _shorten(inner)


def _count(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims)


def _described(tensor: onnx.TensorProto) -> str:
    return f"{element_name(tensor.data_type)}[{','.join(str(d) for d in tensor.dims)}]"
