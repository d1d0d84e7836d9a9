"""Native values on disk."""

from pathlib import Path

import ml_dtypes
import numpy as np

from onnxeq import native_values
from onnxeq.protocols import NativeValue


def test_what_was_stored_is_read_back(tmp_path: Path) -> None:
    """Name, order, call, and the arrays in their own type, bfloat16 and zero dimensions included."""
    arrays = [np.arange(6.0).reshape(2, 3), np.array(3, np.int32), np.ones(4, ml_dtypes.bfloat16)]
    made = [
        NativeValue(f"v{i}", a, "aten.relu.default", {"self": "x", "dim": "-1"}, ("dim",), "layer1", "net.py:3: f")
        for i, a in enumerate(arrays)
    ]
    assert native_values.store(tmp_path, iter(made)) == 3
    found = native_values.load(tmp_path)
    assert list(found) == ["v0", "v1", "v2"]
    assert "v3" not in found
    assert found.rows["v0"].call == "aten.relu.default(x, dim=-1)"
    for value in made:
        read = found.array(value.name)
        assert read.dtype == value.array.dtype
        assert read.shape == value.array.shape
        assert (read == value.array).all()
