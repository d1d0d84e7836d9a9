"""What the values of two executions are called in one graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import parser

from onnxeq import native_values
from onnxeq.layers.matching import Bridge, Renamed
from onnxeq.protocols import NativeValue
from onnxeq.runners.diffing import of_framework


def _graph(first: str, second: str) -> onnx.ModelProto:
    """``x`` to ``y`` by Neg, Exp, Neg, with names for what lies between."""
    return parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> main (float[2,3] x) => (float[2,3] y) '
        f"{{ {first} = Neg(x)\n {second} = Exp({first})\n y = Neg({second}) }}"
    )


def test_values_of_an_export_without_names_keep_the_names_of_the_program(tmp_path: Path) -> None:
    """The program's names are in no graph; its float64 values say where its float32 values belong, and are read."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    power = np.exp(-x.astype(np.float64))
    made = {"neg": -x.astype(np.float64), "exp": power, "neg_1": -power}
    for folder, dtype in (("exact", np.float64), ("plain", np.float32)):
        native_values.store(
            tmp_path / folder,
            [NativeValue(n, a.astype(dtype), f"aten.{n}", {}, (), f"layer.{n}", "") for n, a in made.items()],
        )
    plain, exact = native_values.load(tmp_path / "plain"), native_values.load(tmp_path / "exact")
    bridge = Bridge(_graph("Neg_output_0", "Exp_output_0"), tmp_path, {"x": "x"}, {"y": "y"}, {"x": x})
    found = of_framework(plain, _graph("t1", "t2"), tmp_path, bridge, exact, content=True)
    assert {n: (row.source, row.native) for n, row in found.items() if n != "x"} == {
        "t1": ("neg", "layer.neg"), "t2": ("exp", "layer.exp"), "y": ("neg_1", "layer.neg_1")
    }  # fmt: skip
    held = Renamed(plain, found)
    assert np.array_equal(held.array("t2", made["exp"]), made["exp"].astype(np.float32))
