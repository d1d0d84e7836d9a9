"""The source's values under the names of the judged graph, each as it lies there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper, parser

from onnxeq import native_values, traces
from onnxeq.layers.likeness import Layout
from onnxeq.layers.matching import Bridge, Matched, Renamed, by_name, through, with_layers
from onnxeq.native_values import NativeValues
from onnxeq.protocols import NativeValue
from onnxeq.traces import Trace, TraceWriter
from onnxeq.types import PairedBy


def graph(text: str) -> onnx.ModelProto:
    """``x: float[2,8]`` to ``y``; weights ``w`` and ``v``."""
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]> main (float[2,8] x) => (float[2,8] y) {{ {text} }}'
    )
    for seed, name in enumerate("wv"):
        value = np.random.default_rng(seed).standard_normal((8, 8)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


CHAIN = "a = MatMul(x, w) r = Relu(a) b = MatMul(r, v) y = Softmax(b)"


def trace(folder: Path, *names: str, **values: NDArray[Any]) -> Trace:
    """A trace with these values."""
    with TraceWriter(folder) as writer:
        for name, value in {**{n: np.zeros((2, 8)) for n in names}, **values}.items():
            writer.add(name, value)
    return traces.load(folder)


def native(folder: Path, op: str, value: NDArray[Any], **arguments: str) -> NativeValues:
    """A framework's run with one value."""
    native_values.store(folder, [NativeValue("n", value, op, arguments, tuple(arguments), "block.layer", "")])
    return native_values.load(folder)


def test_names_of_the_same_graph_are_sure_and_others_are_names(tmp_path: Path) -> None:
    """What both have is matched; what only one has is not."""
    known = trace(tmp_path, "a", "y", "elsewhere")
    assert by_name(known, graph(CHAIN), same=True) == {
        "a": Matched("a", PairedBy.STRUCTURE, 1.0), "y": Matched("y", PairedBy.STRUCTURE, 1.0),
    }  # fmt: skip
    assert by_name(known, graph(CHAIN), same=False)["a"] == Matched("a", PairedBy.NAME, 0.9)


def test_the_number_of_an_output_is_its_name_where_there_is_none(tmp_path: Path) -> None:
    """Test data without names: ``#0`` is the first output; a name goes before it, and a number too many is nothing."""
    assert by_name(trace(tmp_path / "1", "#0", "#1"), graph(CHAIN), same=False)["y"].source == "#0"
    assert by_name(trace(tmp_path / "2", "#0", "y"), graph(CHAIN), same=False)["y"].source == "y"


def test_through_a_graph_with_other_names(tmp_path: Path) -> None:
    """The source's values are called as in its own graph; each is found under the judged graph's name."""
    source = graph("k = MatMul(x, w) l = Relu(k) m = MatMul(l, v) y = Softmax(m)")
    known = trace(tmp_path, "k", "l", "m", "y")
    bridge = Bridge(source, tmp_path, {"x": "x"}, {"y": "y"}, {"x": np.ones((2, 8), np.float32)})
    found = through(known, graph(CHAIN), tmp_path, bridge, content=False)
    assert {n: m.source for n, m in found.items()} == {"a": "k", "r": "l", "b": "m", "y": "y"}
    assert {m.by for m in found.values()} == {PairedBy.STRUCTURE}


def test_content_pairs_what_structure_does_not(tmp_path: Path) -> None:
    """The same numbers by other operators: only running both tells, and without that nothing is guessed."""
    source = graph("z = Sub(x, x) k = Sub(x, z) l = Neg(k) m = Neg(l) p = MatMul(m, w) y = Softmax(p)")
    target = graph("k2 = Neg(x) l2 = Neg(k2) p2 = MatMul(l2, w) y = Softmax(p2)")
    known = trace(tmp_path, "z", "k", "l", "m", "p", "y")
    feed = {"x": np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)}
    bridge = Bridge(source, tmp_path, {"x": "x"}, {"y": "y"}, feed)
    found = through(known, target, tmp_path, bridge, content=True)
    assert found["p2"].source == "p"
    assert all(found[n].source in right for n, right in (("k2", {"l"}), ("l2", {"m", "k"})) if n in found)


def test_the_layer_is_the_frameworks(tmp_path: Path) -> None:
    """A value bears its layer's name, or its operator's where it belongs to none."""
    values = native(tmp_path, "aten.relu", np.zeros(2))
    found = with_layers({"v": Matched("n", PairedBy.NAME, 0.9)}, values)
    assert found["v"].native == "block.layer"
    row = values.rows["n"]
    nameless = NativeValues(values.folder, {"n": type(row)(**{**row.__dict__, "native": ""})})
    assert with_layers({"v": Matched("n", PairedBy.NAME, 0.9)}, nameless)["v"].native == "aten.relu"


def laid(side: Renamed, like: NDArray[Any]) -> NDArray[Any]:
    """The value ``v``, as something of the judged graph lies."""
    found = side.array("v", like)
    assert found is not None
    return found


LAST = np.random.default_rng(0).standard_normal((1, 6, 6, 8))
FIRST = np.moveaxis(LAST, -1, 1)


@pytest.mark.parametrize(
    ("op", "arguments"),
    [("Conv2D", {"data_format": "'NHWC'"}), ("LeakyRelu", {}), ("AddV2", {}), ("ResizeBilinear", {})],
)
def test_channels_last_are_put_first(tmp_path: Path, op: str, arguments: dict[str, str]) -> None:
    """Whether or not the operator says how its operands lie: the value lies as what the graph makes in its place."""
    side = Renamed(native(tmp_path, op, LAST, **arguments), {"v": Matched("n", PairedBy.NAME, 0.9)})
    assert "v" in side
    assert "n" not in side
    assert np.array_equal(laid(side, FIRST + 1e-6), FIRST)
    assert np.array_equal(laid(side, LAST + 1e-6), LAST)


def test_of_two_layouts_that_fit_the_numbers_decide(tmp_path: Path) -> None:
    """A cube fits both ways."""
    cube = np.random.default_rng(0).standard_normal((1, 4, 4, 4))
    matched = {"v": Matched("n", PairedBy.NAME, 0.9)}
    side = Renamed(native(tmp_path, "Conv2D", cube, data_format="'NHWC'"), matched)
    assert np.array_equal(laid(side, np.moveaxis(cube, -1, 1) * 1.001), np.moveaxis(cube, -1, 1))
    assert np.array_equal(laid(side, cube * 1.001), cube)


def test_axes_of_one_are_no_difference(tmp_path: Path) -> None:
    """A mean that keeps its axes under the name of one that does not."""
    side = Renamed(native(tmp_path, "Mean", LAST[:, 0, 0]), {"v": Matched("n", PairedBy.NAME, 0.9)})
    assert np.array_equal(laid(side, np.zeros((1, 8, 1, 1))), LAST[:, 0, 0].reshape(1, 8, 1, 1))
    assert laid(side, np.zeros((8, 2))).shape == (1, 8)  # another size stays what it is


def test_a_layout_that_was_found_is_applied(tmp_path: Path) -> None:
    """A value that lies transposed in the judged graph."""
    value = np.arange(6.0).reshape(2, 3)
    known = trace(tmp_path, n=value)
    layout = Layout((2, 3), (1, 0), (3, 2))
    side = Renamed(known, {"v": Matched("n", PairedBy.VALUE, 0.95, (layout,))})
    assert np.array_equal(laid(side, np.zeros((3, 2))), value.T)
