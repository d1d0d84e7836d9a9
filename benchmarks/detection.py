"""The smallest fault that is detected from outputs alone, beside Polygraphy's default acceptance rule.

Each fault is put into the ONNX file that torch's exporter wrote of a healthy model; the source is the torch model
itself, and ``onnxeq.check(source, artifact)`` judges it. Polygraphy's rule (:func:`polygraphy_default`) is held against
the outputs of onnxruntime on the healthy and on the faulty file at the same inputs, where no difference between
frameworks is in its way; the column ``Polygraphy, healthy`` says what it makes of torch against the healthy file.

Sizes are bisected over a geometric grid. The healthy file must be equivalent first, and the fault must change an
output of onnxruntime, else a row would say nothing. Claimed are ResNet-50's channel in the middle convolution at
1.0005 and every other fault without the mark *; where in a deep network a channel lies decides how much of it arrives
at the outputs, so the first and the last convolution are shown beside it.

    python benchmarks/detection.py [--only WORD]
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from common import print_table, progress
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import onnxeq
from onnxeq import sides, zoo
from onnxeq.protocols import LoadRequest, Native
from onnxeq.runners.native import load_converter
from onnxeq.types import Array, ExportForm, Feed, Precision, Report, Status, Verdict

POLYGRAPHY_ATOL = 1e-5
POLYGRAPHY_RTOL = 1e-5

_FACTORIES = Path(__file__).with_name("models") / "fault_models.py"


def polygraphy_default(a: Array, b: Array, *, atol: float = POLYGRAPHY_ATOL, rtol: float = POLYGRAPHY_RTOL) -> bool:
    """Whether Polygraphy accepts output ``a`` against ``b`` at its defaults.

    The rule is that of ``CompareFunc.simple`` as its documentation states it: with ``check_error_stat="elemwise"`` an
    element is accepted when its absolute error ``|a - b|`` is at most ``atol`` *or* its relative error ``|a - b|/|b|``
    is at most ``rtol``, both 1e-5; an output is accepted when all of its elements are, and shapes agree. This is an
    implementation of that rule; Polygraphy itself is not run.
    """
    if a.shape != b.shape:
        return False
    error = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return bool(np.all((error <= atol) | (error <= rtol * np.abs(b.astype(np.float64)))))


def geometric(low: float, high: float, per_decade: int) -> tuple[float, ...]:
    """Sizes from ``low`` to ``high``, ``per_decade`` of them per factor of ten."""
    steps = round(math.log10(high / low) * per_decade)
    return tuple(low * 10 ** (k / per_decade) for k in range(steps + 1))


def smallest(sizes: Sequence[float], detected: Callable[[float], bool]) -> float:
    """The smallest of ascending ``sizes`` that is detected, by bisection; NaN when not even the largest is."""
    low, high = 0, len(sizes)
    while low < high:
        middle = (low + high) // 2
        if detected(sizes[middle]):
            high = middle
        else:
            low = middle + 1
    return sizes[high] if high < len(sizes) else math.nan


Change = Callable[[onnx.ModelProto, float], None]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: For the table.
        source: The healthy model's reference.
        shape: Its input without the batch.
        change: Puts the fault, at a size, into the healthy file.
        size: What must be detected.
        text: The size for the reader, with ``{}`` for the number.
        grid: Sizes to bisect over; empty when the fault has none.
        form: Which export it goes into.
        opset: Of the export.
        claimed: Whether the benchmark fails when it is not detected.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    change: Change
    size: float = 0.0
    text: str = "-"
    grid: tuple[float, ...] = ()
    form: ExportForm = ExportForm.DEPLOYED
    opset: int | None = None
    claimed: bool = True


def _factory(name: str) -> str:
    return f"{_FACTORIES}:{name}@seeded"


def nodes(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    """The nodes of that type, which must exist."""
    found = [n for n in model.graph.node if n.op_type == kind]
    if not found:
        raise SystemExit(f"the export has no {kind}: {sorted({n.op_type for n in model.graph.node})}")
    return found


def put(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Sets an attribute."""
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def _edit(model: onnx.ModelProto, name: str, change: Callable[[NDArray[Any]], None]) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    value = numpy_helper.to_array(tensor).copy()
    change(value)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def _convolution(model: onnx.ModelProto, place: float) -> onnx.NodeProto:
    """The convolution at that share of the way through the graph."""
    found = nodes(model, "Conv")
    return found[min(len(found) - 1, int(place * len(found)))]


def scale_channel(place: float) -> Change:
    """Scales output channel 0 of a convolution, weights and bias, by ``1 + d``."""

    def change(model: onnx.ModelProto, d: float) -> None:
        def scale(value: NDArray[Any]) -> None:
            value[0] *= np.float32(1 + d)

        for name in _convolution(model, place).input[1:]:
            _edit(model, name, scale)

    return change


def swap_channels(model: onnx.ModelProto, _: float) -> None:
    """Exchanges output channels 0 and 1 of the middle convolution."""

    def swap(value: NDArray[Any]) -> None:
        value[[0, 1]] = value[[1, 0]]

    for name in _convolution(model, 0.5).input[1:]:
        _edit(model, name, swap)


def raise_epsilon(model: onnx.ModelProto, d: float) -> None:
    """Every BatchNormalization's epsilon times ``1 + d``."""
    for node in nodes(model, "BatchNormalization"):
        before = next(a.f for a in node.attribute if a.name == "epsilon")
        put(node, "epsilon", before * (1 + d))


def move_padding(model: onnx.ModelProto, _: float) -> None:
    """Padding of the convolution with stride two: none above and left, all of it below and right."""
    node = next(n for n in nodes(model, "Conv") if 2 in next(a.ints for a in n.attribute if a.name == "strides"))
    put(node, "pads", [0, 0, 2, 2])


def attribute(kind: str, name: str, value: Any) -> Change:
    """Sets an attribute of every node of a type."""

    def change(model: onnx.ModelProto, _: float) -> None:
        for node in nodes(model, kind):
            put(node, name, value)

    return change


def shift_bias(count: int | None) -> Change:
    """The middle convolution's bias, ``count`` elements of it, moved by so many times 2^-23 of their values."""

    def change(model: onnx.ModelProto, ulps: float) -> None:
        def shift(value: NDArray[Any]) -> None:
            value[:count] *= np.float32(1 + ulps * 2.0**-23)

        _edit(model, _convolution(model, 0.5).input[2], shift)

    return change


_MODE = "coordinate_transformation_mode"
_IMAGE = (3, 24, 24)

FAULTS = (
    *(
        Fault(
            f"ResNet-50, {where} Conv: a channel scaled", "torchvision:resnet50@seeded", (3, 224, 224),
            scale_channel(place), 5e-4, "1 + {:.3g}", geometric(*grid, 8), claimed=where == "middle",
        )
        for where, place, grid in (
            ("first", 0.0, (1e-7, 1e-4)), ("middle", 0.5, (1e-4, 1e-2)), ("last", 1.0, (1e-4, 1e-2)),
        )
    ),
    Fault(
        "BatchNorm epsilon 1e-5, unfolded", _factory("compact"), _IMAGE, raise_epsilon, 0.1, "1e-5 * (1 + {:.3g})",
        geometric(1e-2, 1e2, 8), ExportForm.UNFOLDED,
    ),
    Fault("padding all on one side", _factory("compact"), _IMAGE, move_padding),
    Fault("Resize: align_corners for half_pixel", _factory("upsampling"), (3, 12, 12),
          attribute("Resize", _MODE, "align_corners")),
    Fault("Resize to 1: pytorch_half_pixel for half_pixel", _factory("shrinking"), (3, 12, 16),
          attribute("Resize", _MODE, "pytorch_half_pixel")),
    Fault("GELU: tanh for erf", _factory("gelu"), (48,), attribute("Gelu", "approximate", "tanh"), opset=20),
    Fault("AveragePool without count_include_pad", _factory("pooling"), _IMAGE,
          attribute("AveragePool", "count_include_pad", 0)),
    Fault("softmax over the other axis", _factory("attention"), (14, 32), attribute("Softmax", "axis", 1)),
    Fault("two channels swapped", _factory("compact"), _IMAGE, swap_channels),
    Fault("a bias moved, every channel", _factory("compact"), _IMAGE, shift_bias(None), 100, "{:.3g} ulp",
          geometric(1, 1e5, 8)),
    Fault("a bias moved, channel 0 only", _factory("compact"), _IMAGE, shift_bias(1), 100, "{:.3g} ulp",
          geometric(1, 1e5, 8), claimed=False),
)  # fmt: skip


@dataclass(frozen=True)
class Healthy:
    """A source, as it was exported and run."""

    native: Native
    path: Path
    feeds: tuple[Feed, ...]
    outputs: tuple[dict[str, Array], ...]


def prepare(fault: Fault, folder: Path) -> Healthy:
    """Loads the source as a check does, exports it, and runs it in float32."""
    import torch

    rng = np.random.default_rng(0)
    names = {"torchvision": "x"}
    ref = zoo.parse(fault.source)
    torch.manual_seed(0)  # what the job of a check does before it calls a factory
    module = None if ref.zoo in names else _module(Path(ref.module), ref.name)
    parameter = names.get(ref.zoo) or _first_parameter(module)
    feeds = tuple({parameter: rng.standard_normal((n, *fault.shape), np.float32)} for n in (1, 3))
    specs = sides.declared_inputs(sides.Request.of(feeds, None), None)
    request = LoadRequest(ref, specs, 0)
    converter = load_converter("torch")
    native = (
        converter.load(request, lambda _: None) if module is None else converter.wrap(module, request, lambda _: None)
    )
    outputs = tuple(native.run(feed, Precision.F32) for feed in feeds)
    (export,) = native.export(folder, (fault.form,), fault.opset)
    return Healthy(native, export.path, feeds, outputs)


def _module(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)()


def _first_parameter(module: Any) -> str:
    import inspect

    return next(iter(inspect.signature(module.forward).parameters))


def judge(fault: Fault, healthy: Healthy, artifact: Path) -> Report:
    """The check of the torch model against a file, at the same inputs."""
    report = onnxeq.check(fault.source, str(artifact), inputs=healthy.feeds, providers=["cpu"])
    ours, theirs = healthy.native.provenance["weights_sha256"], report.source["weights_sha256"]
    if ours != theirs:
        raise SystemExit(f"{fault.source}: the check loaded other weights than were exported")
    return report


def on_onnxruntime(healthy: Healthy, artifact: Path) -> tuple[list[Array], ...]:
    """The outputs of every feed, onnxruntime as it comes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return tuple(session.run(None, dict(zip(names, feed.values(), strict=True))) for feed in healthy.feeds)


def polygraphy_passes(found: Sequence[Sequence[Array]], expected: Sequence[Sequence[Array]]) -> bool:
    """Polygraphy's rule on every output of every feed."""
    pairs = [p for f, e in zip(found, expected, strict=True) for p in zip(f, e, strict=True)]
    return all(polygraphy_default(a, b) for a, b in pairs)


def by_outputs(report: Report) -> bool:
    """Whether the outputs tell that something is wrong: the ledger, which compares the weights themselves, left out."""
    return any(r.status is Status.FAIL and r.name != "ledger" for r in report.rungs)


def nearest_rung(report: Report) -> tuple[str, float, float]:
    """The rung that came closest to, or furthest over, its limit: name, ratio, limit."""
    ran = [r for r in report.rungs if r.status is not Status.NOT_RUN and r.limit > 0]
    worst = max(ran, key=lambda r: r.ratio / r.limit)
    return worst.name, worst.ratio, worst.limit


def examine(fault: Fault, folder: Path) -> tuple[list[str], bool]:
    """The fault's row, and whether it is detected at the size that it must be."""
    progress(f"{fault.name}: export")
    healthy = prepare(fault, folder)
    sound = on_onnxruntime(healthy, healthy.path)
    native = [list(outputs.values()) for outputs in healthy.outputs]
    peer_alone = "pass" if polygraphy_passes(sound, native) else "false alarm"
    seen: dict[float, Report] = {}

    def faulty(size: float) -> Path:
        model = onnx.load(healthy.path)
        fault.change(model, size)
        path = folder / "faulty.onnx"
        onnx.save(model, path)
        return path

    def look(size: float) -> Report:
        if size not in seen:
            seen[size] = judge(fault, healthy, faulty(size) if size >= 0 else healthy.path)
            name, ratio, limit = nearest_rung(seen[size])
            progress(f"    {size:.3g}: {seen[size].verdict.value}, {name} {ratio:.3g} of {limit:g}")
        return seen[size]

    def peer(size: float) -> bool:
        return not polygraphy_passes(on_onnxruntime(healthy, faulty(size)), sound)

    found = on_onnxruntime(healthy, faulty(fault.size))
    if all(np.array_equal(a, b) for f, s in zip(found, sound, strict=True) for a, b in zip(f, s, strict=True)):
        raise SystemExit(f"{fault.name}: the fault changes no output, so that there is nothing to detect")
    control, report = look(_HEALTHY), look(fault.size)
    name, ratio, limit = nearest_rung(report)
    ours = smallest(fault.grid, lambda size: by_outputs(look(size)))
    row = [
        fault.name + ("" if fault.claimed else " *"),
        fault.text.format(fault.size),
        control.verdict.value,
        peer_alone,
        report.verdict.value,
        f"{name} {ratio:.3g} / {limit:g}",
        "fail" if peer(fault.size) else "pass",
        *(_found(fault, size) for size in (ours, smallest(fault.grid, peer))),
    ]
    return row, control.verdict is Verdict.EQUIVALENT and by_outputs(report)


_HEALTHY = -1.0
"""The size that stands for the file without a fault."""


def _found(fault: Fault, size: float) -> str:
    if not fault.grid:
        return "-"
    return f"> {fault.text.format(fault.grid[-1])}" if math.isnan(size) else fault.text.format(size)


def main() -> int:
    """Prints the table; 1 when a fault is not detected."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="faults whose name contains this")
    options = parser.parse_args()
    rows, missed = [], []
    for fault in FAULTS:
        if options.only.lower() not in fault.name.lower():
            continue
        with tempfile.TemporaryDirectory() as folder:
            row, detected = examine(fault, Path(folder))
        rows.append(row)
        if not detected and fault.claimed:
            missed.append(fault.name)
    peer = "Polygraphy"
    header = ["fault (* not claimed)", "size", "onnxeq, healthy", f"{peer}, healthy", "onnxeq", "rung, ratio / limit"]
    header += [peer, "smallest: onnxeq", peer]
    print_table(header, rows)
    print(f"\nnot detected: {'; '.join(missed) or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
