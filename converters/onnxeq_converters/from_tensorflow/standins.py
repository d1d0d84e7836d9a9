"""Large weights kept out of a conversion: one copy beside it, stand-ins inside.

TensorFlow and tf2onnx pass every constant on by value: into and out of graphs, once per optimizer, in
every ``node_def``. A weight of 400 MB is copied dozens of times, and protobuf keeps several of the
copies alive. Here such a weight is stored once, under the digest of its bytes, and the digest takes
the place of the bytes in TensorFlow's and in ONNX's ``TensorProto``; name, type and shape stay.

Nothing is decided differently. Equal bytes have equal digests, so tf2onnx's comparisons of constants
(``merge_duplication``) come out the same. Who asks for the values gets them: tf2onnx through
``numpy_helper`` and ``get_tf_tensor_data``, TensorFlow's grappler as :mod:`.grappler` says. What reads
``raw_data`` itself (tf2onnx 1.17: einsum equations, ``FakeQuant`` ranges) is far below the size from
which there are stand-ins.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from onnxeq.types import Array
from onnxeq_converters.from_tensorflow.framework import require
from onnxeq_converters.from_tensorflow.grappler import with_weights

__all__ = ["StandIns", "replaced", "stand_ins"]

_SMALLEST = 1 << 16
"""Bytes of the smallest weight that is kept aside: the many small ones cost nothing."""

_FLOATS = ("float16", "float32", "float64")
"""Only these are kept aside: shape inference reads integers."""


class StandIns:
    """The weights that are kept aside, by the digest of their bytes."""

    def __init__(self) -> None:
        self._bytes: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def n_bytes(self) -> int:
        """What is kept, in bytes."""
        return sum(map(len, self._bytes.values()))

    def keep(self, data: bytes) -> bytes:
        """Stores the bytes once and returns what stands in for them."""
        digest = hashlib.sha256(data).digest()
        self._bytes.setdefault(digest, data)
        return digest

    def behind(self, data: bytes) -> bytes | None:
        """The bytes that ``data`` stands in for; ``None`` where it stands for itself."""
        return self._bytes.get(data)

    def clear(self) -> None:
        """Lets go of all bytes."""
        self._bytes.clear()

    def restore(self, proto: Any) -> None:
        """Puts the bytes back into an ``onnx.ModelProto``, and lets go of them."""
        for tensor in _onnx_tensors(proto.graph):
            if (data := self.behind(tensor.raw_data)) is not None:
                tensor.raw_data = data
        self.clear()

    def from_array(self, array: Array, /, name: str | None = None) -> Any:
        """``onnx.numpy_helper.from_array``, with a stand-in where the array is large."""
        onnx = require("onnx")
        if array.nbytes < _SMALLEST or array.dtype.name not in _FLOATS:
            return onnx.numpy_helper.from_array(array, name)
        data = self.keep(onnx.numpy_helper.tobytes_little_endian(array))
        return _onnx_stand_in(array, name, data)

    def to_array(self, tensor: Any, base_dir: str = "") -> Array:
        """``onnx.numpy_helper.to_array``, with the values behind a stand-in."""
        onnx = require("onnx")
        data = self.behind(tensor.raw_data)
        if data is None:
            result: Array = onnx.numpy_helper.to_array(tensor, base_dir)
            return result
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.frombuffer(data, np.dtype(kind).newbyteorder("<")).reshape(tensor.dims)

    def grow(self, tensor: Any) -> None:
        """Puts the bytes back into a ``tensorflow.TensorProto``."""
        if (data := self.behind(tensor.tensor_content)) is not None:
            tensor.tensor_content = data

    def shrink(self, tensor: Any) -> None:
        """Puts a stand-in into a large ``tensorflow.TensorProto``."""
        name = require("tensorflow").as_dtype(tensor.dtype).name
        if name in _FLOATS and len(content := tensor.tensor_content) >= _SMALLEST:
            tensor.tensor_content = self.keep(content)

    def tf_value(self, tensor: Any) -> Array | None:
        """The values behind a ``tensorflow.TensorProto``; ``None`` where it holds them itself."""
        data = self.behind(tensor.tensor_content)
        if data is None:
            return None
        dims = [d.size for d in tensor.tensor_shape.dim]
        return np.frombuffer(data, require("tensorflow").as_dtype(tensor.dtype).as_numpy_dtype).reshape(dims)

    def tf_to_onnx(self, tensor: Any, name: str) -> Any | None:
        """The stand-in of a ``tensorflow.TensorProto`` as ONNX's; ``None`` where it is none."""
        value = self.tf_value(tensor)
        return None if value is None else _onnx_stand_in(value, name, tensor.tensor_content)


@contextlib.contextmanager
def stand_ins() -> Iterator[StandIns]:
    """Keeps large weights out of the conversions inside; the result is to be restored inside.

    Raises:
        AttributeError: TensorFlow or tf2onnx is built otherwise than the versions known here.
    """
    kept = StandIns()
    freezing, grappler, tf_utils = (
        require(name)
        for name in (
            "tensorflow.python.framework.convert_to_constants",
            "tensorflow.python.grappler.tf_optimizer",
            "tf2onnx.tf_utils",
        )
    )
    make = freezing.tensor_util.make_tensor_proto
    optimize = grappler.tf_opt.TF_OptimizeGraphSerialized
    value, translate = tf_utils.get_tf_tensor_data, tf_utils.tf_to_onnx_tensor

    def tf_value(tensor: Any) -> Array:
        known = kept.tf_value(tensor)
        return value(tensor) if known is None else known

    def tf_to_onnx(tensor: Any, name: str = "") -> Any:
        return kept.tf_to_onnx(tensor, name) or translate(tensor, name)

    with contextlib.ExitStack() as stack:
        for module, name, replacement in (
            # Variables become constants here: from the start they are stand-ins.
            (freezing, "tensor_util", _with(freezing.tensor_util, make_tensor_proto=_frozen(kept, make))),
            (grappler, "tf_opt", _with(grappler.tf_opt, TF_OptimizeGraphSerialized=with_weights(kept, optimize))),
            (tf_utils, "get_tf_tensor_data", tf_value),
            (tf_utils, "tf_to_onnx_tensor", tf_to_onnx),
            *_numpy_helpers(kept),
        ):
            stack.enter_context(replaced(module, name, replacement))
        yield kept


@contextlib.contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Sets ``module.name`` for the time of the block.

    Raises:
        AttributeError: The module has no such name.
    """
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


def _onnx_stand_in(array: Array, name: str | None, digest: bytes) -> Any:
    onnx = require("onnx")
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.TensorProto(name=name or None, data_type=kind, dims=array.shape, raw_data=digest)


def _with(module: ModuleType, **replacements: Any) -> SimpleNamespace:
    """The module as one of its users sees it, the replacements in place."""
    return SimpleNamespace(**{**vars(module), **replacements})


def _numpy_helpers(kept: StandIns) -> Iterator[tuple[ModuleType, str, Any]]:
    """Every place where tf2onnx turns tensors into arrays and back."""
    original = require("onnx.numpy_helper")
    ours = _with(original, from_array=kept.from_array, to_array=kept.to_array)
    for module in [m for name, m in sys.modules.items() if name.partition(".")[0] == "tf2onnx"]:
        for name, before, after in (
            ("numpy_helper", original, ours),
            ("from_array", original.from_array, ours.from_array),
            ("to_array", original.to_array, ours.to_array),
        ):
            if vars(module).get(name) is before:
                yield module, name, after


def _frozen(kept: StandIns, make: Callable[..., Any]) -> Callable[..., Any]:
    """``make_tensor_proto`` that makes a stand-in at once: the whole tensor would be copied four times."""
    tf = require("tensorflow")
    tensor_proto = require("tensorflow.core.framework.tensor_pb2").TensorProto

    def freeze(values: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        is_large = isinstance(values, np.ndarray) and values.nbytes >= _SMALLEST
        if not is_large or values.dtype.name not in _FLOATS or tf.as_dtype(dtype or values.dtype) != values.dtype:
            return make(values, dtype, *args, **kwargs)
        kind, shape = tf.as_dtype(values.dtype).as_datatype_enum, tf.TensorShape(values.shape).as_proto()
        return tensor_proto(dtype=kind, tensor_shape=shape, tensor_content=kept.keep(values.tobytes()))

    return freeze


def _onnx_tensors(graph: Any) -> Iterable[Any]:
    """All tensors of an ``onnx.GraphProto``, those of the bodies of loops and branches included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for body in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _onnx_tensors(body)
