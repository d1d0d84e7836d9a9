"""Sizes of a graph's values before anything runs: an upper bound where they are known, a guess where not."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, parser

from onnxeq.layers.extents import extents_of

UNKNOWN = 8 << 20


def model() -> onnx.ModelProto:
    """Values of four types, a sequence, and one whose shape only a run tells."""
    made = parser.parse_model("""<ir_version: 10, opset_import: ["" : 20]> main (float[N,8] x) => (float[M,8] y) {
      a = Relu(x)
      h = Cast <to = 10> (a)
      b = Greater(a, x)
      i = Cast <to = 7> (b)
      z = NonZero(b)
      s = SequenceConstruct(a, x)
      y = Relu(a)
    }""")
    made.graph.output.append(helper.make_tensor_value_info("nothing", onnx.TensorProto.FLOAT, None))
    made.graph.node.append(helper.make_node("Identity", ["y"], ["nothing"]))
    return made


def sizes(*rows: int) -> dict[str, tuple[str, int]]:
    """Type and bytes by name, for feeds of so many rows."""
    feeds = [{"x": np.zeros((n, 8), np.float32)} for n in rows]
    return {name: (e.dtype, e.nbytes) for name, e in extents_of(model(), feeds).items()}


def test_types_and_sizes_follow_from_the_feed() -> None:
    """Eight numbers in each of three rows: float32 takes 4 bytes, float16 2, bool 1, int64 8."""
    found = sizes(3)
    assert found["a"] == found["y"] == ("float32", 96)
    assert found["h"] == ("float16", 48)
    assert found["b"] == ("bool", 24)
    assert found["i"] == ("int64", 192)


def test_the_largest_feed_counts() -> None:
    """A run must not take more than it is thought to."""
    assert sizes(2, 5, 3)["a"] == sizes(5)["a"] == ("float32", 160)


def test_what_is_not_known_is_taken_to_be_large() -> None:
    """A shape that follows from values, a sequence, and everything where no feed tells the rows."""
    found = sizes(3)
    assert found["z"] == ("int64", UNKNOWN)
    assert found["s"] == ("", UNKNOWN)
    assert {size for _, size in (extent for extent in sizes().values())} == {UNKNOWN}


def test_what_inference_does_not_understand_is_unknown_too() -> None:
    """An operator of a domain that nobody knows: nothing fails, every value is listed."""
    made = model()
    made.graph.node.insert(1, helper.make_node("Odd", ["a"], ["odd"], domain="nobody"))
    made.opset_import.add(domain="nobody", version=1)
    found = extents_of(made, [{"x": np.zeros((3, 8), np.float32)}])
    assert found["odd"].nbytes == UNKNOWN
    assert found.keys() == {n for node in made.graph.node for n in node.output}


def test_the_model_is_not_changed() -> None:
    """Its declared shapes stay."""
    made = model()
    before = made.SerializeToString()
    extents_of(made, [{"x": np.zeros((3, 8), np.float32)}])
    assert made.SerializeToString() == before
