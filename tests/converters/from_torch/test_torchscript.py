"""torch's older exporter."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxeq.errors import UsageError
from onnxeq.protocols import LoadRequest
from onnxeq.types import ExportForm, ModelRef, Precision, TensorSpec

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # after the skip

from onnxeq_converters import from_torch  # noqa: E402  # after the skip


def _wrapped(exporter):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten())
    request = LoadRequest(ModelRef("m", "live", "m"), (TensorSpec("x", "float32", ("N", 3, 6, 6)),), exporter=exporter)
    return from_torch.wrap(model, request, lambda _step: None)


def test_both_forms_compute_the_model(tmp_path):
    """Unfolded keeps BatchNormalization and drops Dropout, deployed has folded it; both agree, for any batch."""
    native = _wrapped("torchscript")
    made = native.export(tmp_path, (ExportForm.UNFOLDED, ExportForm.DEPLOYED), None)
    kinds = [{node.op_type for node in onnx.load(e.path).graph.node} for e in made]
    assert "BatchNormalization" in kinds[0]
    assert "BatchNormalization" not in kinds[1]
    assert "Dropout" not in kinds[0] | kinds[1]
    feed = {"input": np.random.default_rng(0).normal(size=(5, 3, 6, 6)).astype(np.float32)}
    expected = native.run(feed, Precision.F32)["output"]
    for export in made:
        assert export.dynamic_batch
        session = ort.InferenceSession(str(export.path), providers=["CPUExecutionProvider"])
        (given,) = session.run(list(export.output_names), {export.input_names[0]: feed["input"]})
        assert np.abs(given - expected).max() < 1e-5
    assert "dynamo=False" in native.provenance["exporter"]


def test_an_exporter_that_torch_does_not_have():
    """It is said before anything is loaded, with those that there are."""
    with pytest.raises(UsageError, match="no exporter 'onnxslim'") as caught:
        _wrapped("onnxslim")
    assert "torchscript" in caught.value.hint
