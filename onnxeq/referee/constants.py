"""Reading stored tensors: inline or external, any element type, without copying where possible."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import SparseTensorProto, TensorProto

from onnxeq.errors import UnusableModel
from onnxeq.referee.elements import element_name, numpy_dtype

__all__ = ["BITS", "sparse_array", "tensor_array"]

BITS = {"int4": 4, "uint4": 4, "float4_e2m1fn": 4, "int2": 2, "uint2": 2}
"""Types of which several share a byte, lowest bits first."""

_BIT_FIELDS = ("float16", "bfloat16")
"""Types whose bits ``int32_data`` holds, two bytes each (one byte for the float8 types)."""


def tensor_array(tensor: TensorProto, base_dir: Path | None = None) -> NDArray[Any]:
    """The stored values of ``tensor`` in their own element type.

    Inline raw data and external data are viewed, not copied: the result may be read-only.

    Args:
        tensor: An initializer or a tensor attribute.
        base_dir: The folder of the model file; external data must lie inside it.

    Raises:
        UnusableModel: The data is missing, truncated, or lies outside ``base_dir``.
    """
    name = element_name(tensor.data_type)
    shape = tuple(tensor.dims)
    if tensor.data_location == TensorProto.EXTERNAL:
        raw = _external(tensor, base_dir)
    elif tensor.HasField("raw_data"):
        raw = np.frombuffer(tensor.raw_data, dtype=np.uint8)
    else:
        return _typed_fields(tensor, name, shape)
    return _from_bytes(raw, name, shape, tensor.name)


def _from_bytes(raw: NDArray[np.uint8], name: str, shape: tuple[int, ...], label: str) -> NDArray[Any]:
    count = math.prod(shape)
    if name == "str":
        raise UnusableModel(f"tensor {label!r}: strings cannot be stored as raw data")
    bits = BITS.get(name)
    dtype = numpy_dtype(name)
    needed = -(-count * bits // 8) if bits else count * dtype.itemsize
    if raw.size < needed:
        raise UnusableModel(
            f"tensor {label!r} holds {raw.size} bytes, {needed} needed for {name}{list(shape)}",
            hint="The file is truncated; fetch or export it again.",
        )
    if bits:
        return _unpack(raw[:needed], name, bits, count).reshape(shape)
    # ONNX stores little-endian; on such machines this is a view.
    little = raw[:needed].view(dtype.newbyteorder("<")) if dtype.kind != "V" else raw[:needed].view(dtype)
    return little.astype(dtype, copy=False).reshape(shape)


def _unpack(raw: NDArray[np.uint8], name: str, bits: int, count: int) -> NDArray[Any]:
    per_byte = 8 // bits
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(bits)
    codes = ((raw[:, None] >> shifts) & np.uint8((1 << bits) - 1)).reshape(-1)[:count]
    if name.startswith("int"):
        sign = 1 << (bits - 1)
        signed = (codes.astype(np.int8) ^ np.int8(sign)) - np.int8(sign)
        return signed.astype(numpy_dtype(name))
    if name.startswith("uint"):
        return codes.astype(numpy_dtype(name))
    return codes.view(numpy_dtype(name))


def _typed_fields(tensor: TensorProto, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    fields: Mapping[str, Any] = {
        "float32": tensor.float_data,
        "complex64": tensor.float_data,
        "float64": tensor.double_data,
        "complex128": tensor.double_data,
        "int64": tensor.int64_data,
        "uint32": tensor.uint64_data,
        "uint64": tensor.uint64_data,
        "str": tensor.string_data,
    }
    data = fields.get(name, tensor.int32_data)
    if name == "str":
        flat: NDArray[Any] = np.array([item.decode("utf-8") for item in data], dtype=object)
    elif name.startswith("complex"):
        flat = np.array(data, dtype=numpy_dtype("float32" if name == "complex64" else "float64"))
        flat = flat.view(numpy_dtype(name))
    elif name in BITS:
        raw = np.array(data, dtype=np.int64).astype(np.uint8)
        flat = _unpack(raw, name, BITS[name], math.prod(shape))
    elif name in _BIT_FIELDS:
        flat = np.array(data, dtype=np.int64).astype(np.uint16).view(numpy_dtype(name))
    elif name.startswith("float8"):
        flat = np.array(data, dtype=np.int64).astype(np.uint8).view(numpy_dtype(name))
    else:
        flat = np.array(data, dtype=numpy_dtype(name))
    if flat.size != math.prod(shape):
        raise UnusableModel(
            f"tensor {tensor.name!r} holds {flat.size} values, its shape {list(shape)} needs {math.prod(shape)}"
        )
    return flat.reshape(shape)


def _external(tensor: TensorProto, base_dir: Path | None) -> NDArray[np.uint8]:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if base_dir is None:
        raise UnusableModel(
            f"tensor {tensor.name!r} is stored in the file {location!r}, but the model's folder is not known",
            hint="Load the model from its path.",
        )
    path = (base_dir / location).resolve()
    if not path.is_relative_to(base_dir.resolve()):
        raise UnusableModel(f"tensor {tensor.name!r} points outside the model's folder: {location!r}")
    if not path.is_file():
        raise UnusableModel(f"tensor {tensor.name!r}: its external data file {location!r} is missing")
    try:
        offset = int(entries.get("offset", "0"))
        size = path.stat().st_size
        length = int(entries.get("length", str(size - offset)))
    except ValueError:
        raise UnusableModel(f"tensor {tensor.name!r}: external offset or length is not a number") from None
    if offset < 0 or length < 0 or offset + length > size:
        raise UnusableModel(
            f"tensor {tensor.name!r} needs bytes {offset}-{offset + length} of {location!r}, which holds {size}",
            hint="The file is truncated; fetch or export it again.",
        )
    if length == 0:
        return np.empty(0, dtype=np.uint8)
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=(length,)))


def sparse_array(sparse: SparseTensorProto, base_dir: Path | None = None) -> NDArray[Any]:
    """The dense form of a sparse tensor; indices are linear (``[NNZ]``) or coordinates (``[NNZ,rank]``)."""
    values = tensor_array(sparse.values, base_dir)
    indices = tensor_array(sparse.indices, base_dir)
    shape = tuple(sparse.dims)
    dense = np.zeros(shape, dtype=values.dtype)
    if indices.ndim == 2:
        dense[tuple(indices.T)] = values
    else:
        dense.reshape(-1)[indices] = values
    return dense
