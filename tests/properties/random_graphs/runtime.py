"""onnxruntime as the oracle of validity: what opsets it takes, and what one node gives on concrete values."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["IR_VERSION", "OLDEST", "evaluate", "info", "newest_opset"]

IR_VERSION = 10
OLDEST = 7


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return options


def info(name: str, array: NDArray[np.generic]) -> onnx.ValueInfoProto:
    """The declaration of a value that looks like ``array``."""
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


@functools.cache
def newest_opset() -> int:
    """The newest opset that this onnxruntime accepts."""
    x = np.zeros(1, np.float32)
    for opset in range(onnx.defs.onnx_opset_version(), OLDEST, -1):
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [info("x", x)], [info("y", x)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
        try:
            ort.InferenceSession(model.SerializeToString(), _options(), providers=["CPUExecutionProvider"])
        except Exception:  # noqa: S112  (onnxruntime's exceptions share no base class)
            continue
        return opset
    raise AssertionError("this onnxruntime accepts no opset")


def evaluate(
    node: onnx.NodeProto,
    opset: int,
    fed: Mapping[str, NDArray[np.generic]],
    stored: Mapping[str, NDArray[np.generic]],
) -> Sequence[NDArray[np.generic]]:
    """The outputs of one node; ``stored`` are its constant inputs.

    Raises:
        Exception: onnxruntime refuses the node (its exceptions share no base class).
    """
    graph = helper.make_graph(
        [node],
        "one",
        [info(n, v) for n, v in fed.items()],
        [onnx.ValueInfoProto(name=n) for n in node.output],
        [numpy_helper.from_array(v, n) for n, v in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    session = ort.InferenceSession(model.SerializeToString(), _options(), providers=["CPUExecutionProvider"])
    values: Sequence[NDArray[np.generic]] = session.run(None, dict(fed))
    return values
