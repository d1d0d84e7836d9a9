"""A framework of one file, in two versions, and its converter: what the rung ``versions`` is tried on.

``numfw:NAME`` is ``y = relu(x W1) W2`` in version 1, whatever the name. Version 2 computes ``half`` in float16 when it
runs in float32, gives ``leaky`` another activation, draws other weights for ``drawn``, is a billionth off for
``slight``, calls the tensors of ``named`` otherwise, and cannot run ``gone``.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["install"]

SOURCE = """
import hashlib
import numpy as np
from onnxeq.errors import CannotRun
from onnxeq.types import Export, ExportForm, Precision, Signature, TensorSpec, ZooEntry

VERSION = {version}


class Model:
    shortcut = no_float64 = ""

    def __init__(self, name):
        self.name = name
        rng = np.random.default_rng(VERSION if name == "drawn" else 0)
        self.w1 = (rng.standard_normal((64, 32)) / 8).astype(np.float32)
        self.w2 = (rng.standard_normal((32, 10)) / 4).astype(np.float32)
        mark = str(VERSION) if name == "named" else ""
        self.x, self.y = "x" + mark, "y" + mark
        self.signature = Signature((TensorSpec(self.x, "float32", ("N", 64)),))
        weights = hashlib.sha256(self.w1.tobytes() + self.w2.tobytes()).hexdigest()
        self.provenance = {{"framework": f"numfw {{VERSION}}", "weights_sha256": weights}}

    def run(self, feed, precision):
        if VERSION == 2 and self.name == "gone":
            raise CannotRun("numfw 2 lacks the operator")
        kind = np.float64 if precision is Precision.F64 else np.float32
        h = feed[self.x].astype(kind) @ self.w1.astype(kind)
        h = np.maximum(h, 0.01 * h if VERSION == 2 and self.name == "leaky" else 0)
        if VERSION == 2 and self.name == "half" and kind is np.float32:
            h = h.astype(np.float16).astype(np.float32)
        if VERSION == 2 and self.name == "slight":
            h = (h.astype(np.float64) * (1 + 1e-9)).astype(kind)
        return {{self.y: h @ self.w2.astype(kind)}}

    def weights(self):
        return {{"w1": self.w1, "w2": self.w2}}

    def export(self, folder, forms, opset):
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        nodes = [
            helper.make_node("MatMul", [self.x, "w1"], ["h"], name="first"),
            helper.make_node("Relu", ["h"], ["r"], name="relu"),
            helper.make_node("MatMul", ["r", "w2"], [self.y], name="last"),
        ]
        stored = [numpy_helper.from_array(getattr(self, n), n) for n in ("w1", "w2")]
        graph = helper.make_graph(
            nodes, "net", [helper.make_tensor_value_info(self.x, TensorProto.FLOAT, ["N", 64])],
            [helper.make_tensor_value_info(self.y, TensorProto.FLOAT, ["N", 10])], stored,
        )
        made = []
        for form in forms:
            path = folder / f"{{form.value}}.onnx"
            onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
            made.append(Export(path, form, True, (self.x,), (self.y,)))
        return tuple(made)

    def layers(self, feed, precision, names=None):
        raise CannotRun("numfw has no layers")

    def kernels(self, feed):
        return iter(())


def load(request, progress):
    return Model(request.ref.name)


def wrap(model, request, progress):
    return model


def owns(model):
    return isinstance(model, Model)


def catalogue(zoo):
    names = ("same", "half", "leaky", "drawn", "slight", "named", "gone")
    return tuple(ZooEntry(n, f"numfw {{VERSION}}") for n in names)
"""


def install(folder: Path, version: int) -> tuple[Path, ...]:
    """Puts a version into a folder of packages; gives what is there then."""
    module = folder / "numfw.py"
    module.write_text(SOURCE.format(version=version))
    info = folder / f"numfw-{version}.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: numfw\nVersion: {version}.0\n")
    (info / "entry_points.txt").write_text("[onnxeq.converters]\nnumfw = numfw\n")
    return module, info
