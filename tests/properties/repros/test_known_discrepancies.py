"""Each row of ``known_discrepancies`` on the smallest model that shows it.

A test that fails here says that this onnxruntime has mended the fault: drop the row, and the random models
will cover its condition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from known_discrepancies import KNOWN
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from onnxeq.referee import Executor

LEVEL = ort.GraphOptimizationLevel


def _model(
    nodes: Sequence[onnx.NodeProto], x: NDArray[Any], stored: Mapping[str, NDArray[Any]], opset: int
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "repro",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _session(model: onnx.ModelProto, level: Any = LEVEL.ORT_DISABLE_ALL) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _both(model: onnx.ModelProto, x: NDArray[Any], level: Any = LEVEL.ORT_DISABLE_ALL) -> tuple[Any, Any]:
    """What the referee and what onnxruntime give for ``y``."""
    return Executor(model).run({"x": x})["y"], _session(model, level).run(None, {"x": x})[0]


def conv_transpose_narrower_than_its_stride() -> None:
    """SAME_UPPER, kernel 1, stride 2 over 3 elements: the text gives 3*2 = 6, onnxruntime (3-1)*2 + 1 = 5."""
    x = np.ones((1, 1, 3), np.float32)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2], auto_pad="SAME_UPPER")
    ours, theirs = _both(_model([node], x, {"w": np.ones((1, 1, 1), np.float32)}, 11), x)
    assert ours.ravel().tolist() == [1, 0, 1, 0, 1, 0]
    assert theirs.shape == (1, 1, 5)


def _pool(op: str, opset: int, x: NDArray[Any], **attributes: Any) -> tuple[Any, Any]:
    return _both(_model([helper.make_node(op, ["x"], ["y"], **attributes)], x, {}, opset), x)


def dilated_pool_with_same_padding() -> None:
    """SAME_UPPER, kernel 2, dilation 2 over 7 elements: ceil(7/1) = 7 windows; onnxruntime pads for reach 2: 6.

    Two apart are padded by one on either side, so that the largest are 2, 3, ..., 7, 6.
    """
    x = np.arange(1, 8, dtype=np.float32).reshape(1, 1, 7)
    for op, opset in (("MaxPool", 10), ("LpPool", 18), ("AveragePool", 19)):
        ours, theirs = _pool(op, opset, x, kernel_shape=[2], dilations=[2], auto_pad="SAME_UPPER")
        assert ours.shape == (1, 1, 7)
        assert theirs.shape == (1, 1, 6)
        if op == "MaxPool":
            assert ours.ravel().tolist() == [2, 3, 4, 5, 6, 7, 6]


def same_pool_that_leaves_a_rest() -> None:
    """SAME_UPPER, kernel 1, stride 3 over (1, 2, 3): one window, unpadded, over the 1; onnxruntime's is over the 2.

    So is MaxPool's where it also gives indices; other forms are refused ("padding values must be non-negative").
    Its own Conv, with the same attributes and the weight 1, takes the 1.
    """
    x = np.array([1, 2, 3], np.float32).reshape(1, 1, 3)
    for op, opset in (("LpPool", 18), ("AveragePool", 19)):
        ours, theirs = _pool(op, opset, x, kernel_shape=[1], strides=[3], auto_pad="SAME_UPPER")
        assert ours.ravel().tolist() == [1]
        assert theirs.ravel().tolist() == [2]
    conv = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1], strides=[3], auto_pad="SAME_UPPER")
    ours, theirs = _both(_model([conv], x, {"w": np.ones((1, 1, 1), np.float32)}, 11), x)
    assert ours.ravel().tolist() == theirs.ravel().tolist() == [1]


def pool_longer_than_its_input() -> None:
    """A reach of 5 over 3 elements at stride 3: floor(-2/3) + 1 = 0 windows; onnxruntime gives one."""
    x = np.ones((1, 1, 3), np.float32)
    for op, opset in (("MaxPool", 10), ("LpPool", 18), ("AveragePool", 19)):
        ours, theirs = _pool(op, opset, x, kernel_shape=[3], dilations=[2], strides=[3])
        assert ours.shape == (1, 1, 0)
        assert theirs.shape == (1, 1, 1)


def resize_of_a_region_by_scales() -> None:
    """Half of 4 elements at scale 2: floor(4 * 0.5 * 2) = 4; onnxruntime gives 4 * 2 = 8."""
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 4)
    stored = {"roi": np.array([0, 0, 0, 1, 1, 0.5], np.float32), "scales": np.array([1, 1, 2], np.float32)}
    node = helper.make_node(
        "Resize", ["x", "roi", "scales"], ["y"], mode="linear", coordinate_transformation_mode="tf_crop_and_resize"
    )
    ours, theirs = _both(_model([node], x, stored, 13), x)
    assert ours.ravel().tolist() == [0, 0.5, 1, 1.5]
    assert theirs.shape == (1, 1, 8)


def transposed_matrix_times_a_vector() -> None:
    """``x^T . (1, 1)`` sums the columns of x, (3, 5, 7); optimised, onnxruntime gives something else."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["t", "ones"], ["y"]),
    ]
    model = _model(nodes, x, {"ones": np.ones(2, np.float32)}, 17)
    ours, plain = _both(model, x)
    _, optimized = _both(model, x, LEVEL.ORT_ENABLE_ALL)
    assert ours.tolist() == plain.tolist() == [3, 5, 7]
    assert optimized.tolist() != [3, 5, 7]


def int8_dequantised_before_a_transposition() -> None:
    """Quantised to int8 and back, then transposed: onnxruntime runs it plain and refuses it optimised."""
    x = np.array([[0, 1, 2], [3, 4, 5]], np.float32)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("Transpose", ["d"], ["y"]),
    ]
    stored: dict[str, NDArray[Any]] = {"scale": np.array(0.5, np.float32), "zero": np.array(3, np.int8)}
    model = _model(nodes, x, stored, 21)
    ours, plain = _both(model, x)
    assert ours.tolist() == plain.tolist() == x.T.tolist()
    with pytest.raises(Exception, match="output_dtype INT8 does not match y_zero_point type"):
        _session(model, LEVEL.ORT_ENABLE_ALL)


def mean_variance_normalization_of_small_values() -> None:
    """``x = +-1e-6``: 1e-6 / (1e-6 + 1e-9) = 0.999; onnxruntime gives 1."""
    x = np.array([1e-6, -1e-6], np.float32).reshape(1, 1, 1, 2)
    node = helper.make_node("MeanVarianceNormalization", ["x"], ["y"])
    ours, theirs = _both(_model([node], x, {}, 13), x)
    np.testing.assert_allclose(ours.ravel(), [1 / 1.001, -1 / 1.001], rtol=1e-6)
    np.testing.assert_allclose(theirs.ravel(), [1, -1], rtol=1e-5)


REPROS: dict[str, Callable[[], None]] = {
    "_narrow_same": conv_transpose_narrower_than_its_stride,
    "_dilated_same": dilated_pool_with_same_padding,
    "_cropping_same": same_pool_that_leaves_a_rest,
    "_no_window": pool_longer_than_its_input,
    "_scaled_crop": resize_of_a_region_by_scales,
    "_transposed_times_vector": transposed_matrix_times_a_vector,
    "_int8_per_tensor": int8_dequantised_before_a_transposition,
    "_small_deviation": mean_variance_normalization_of_small_values,
}
"""By the name of the row's predicate."""


@pytest.mark.parametrize("condition", REPROS)
def test_the_discrepancy_is_still_there(condition: str) -> None:
    """This onnxruntime still leaves the specification where the table says."""
    REPROS[condition]()


def test_every_row_has_a_repro() -> None:
    """No condition is left out of the random models without evidence."""
    assert {row.applies.__name__ for row in KNOWN} == set(REPROS)
