"""A trace's tensors by their ONNX names, and its operators judged one by one."""

import numpy as np
import onnx
import pytest

from onnxeq.errors import UsageError
from onnxeq.protocols import LoadRequest
from onnxeq.types import ExportForm, ModelRef, Precision

pytestmark = pytest.mark.keras


def test_the_tensors_have_onnx_names_and_end_in_the_outputs(small_cnn, images, request_for, quiet, tmp_path):
    """In both precisions the outputs are those of a run; most ONNX values are tensors of the trace by name."""
    from onnxeq_converters import from_keras

    native = from_keras.wrap(small_cnn, request_for(), quiet)
    (export,) = native.export(tmp_path, (ExportForm.UNFOLDED,), None)
    known = {name for node in onnx.load(export.path).graph.node for name in node.output}
    for precision, spacing in ((Precision.F64, 2.0**-52), (Precision.F32, 2.0**-23)):
        whole = native.run({"image": images}, precision)
        inside = {value.name: value for value in native.layers({"image": images}, precision)}
        assert np.abs(inside["classes"].array - whole["classes"]).max() <= 4 * spacing
        assert inside["classes"].array.dtype == whole["classes"].dtype
    assert len(set(inside) & known) > 20
    (pool,) = [v for v in inside.values() if v.op == "MaxPool"]
    assert pool.arguments["ksize"] == "[1, 3, 3, 1]"
    assert "max_pooling2d" in pool.native
    one = list(native.layers({"image": images}, Precision.F64, [pool.name]))
    assert [v.name for v in one] == [pool.name]


def test_healthy_kernels_stay_near_one_unit(small_cnn, images, request_for, quiet):
    """No operator of a small network is more than two units of rounding from its float64 form."""
    from onnxeq_converters import from_keras

    found = list(from_keras.wrap(small_cnn, request_for(), quiet).kernels({"image": images}))
    assert {"Conv2D", "DepthwiseConv2dNative", "Softmax"} <= {kernel.op for kernel in found}
    assert max(kernel.ratio for kernel in found) < 2.0


def test_tf2onnx_is_the_only_exporter(small_cnn, quiet):
    """Asking for another one is an error, not ignored."""
    from onnxeq_converters import from_keras

    request = LoadRequest(ModelRef("m", "live", "m"), exporter="torchscript")
    with pytest.raises(UsageError, match="no exporter 'torchscript'"):
        from_keras.wrap(small_cnn, request, quiet)
