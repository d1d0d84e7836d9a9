"""What the ONNX operator schemas say: declared output types, and bodies of operators that have one."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import FunctionProto, NodeProto, TypeProto

from onnxeq.referee.elements import FLOATS, dtype_name, element_name

__all__ = ["body_of", "declared_outputs", "default_attributes", "has_body", "schema_of"]

_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")


@functools.cache
def schema_of(domain: str, op_type: str, opset: int) -> Any:
    """The ``OpSchema`` that holds at ``opset``, or ``None`` for an operator that ONNX does not know.

    Untyped: the package's stubs lack the attributes that concern function bodies.
    """
    try:
        return onnx.defs.get_schema(op_type, opset, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return None


def has_body(node: NodeProto, opset: int) -> bool:
    """Whether the standard defines the operator by a function body."""
    schema = schema_of(node.domain, node.op_type, opset)
    return schema is not None and bool(schema.has_function or schema.has_context_dependent_function)


def body_of(node: NodeProto, opset: int, inputs: Sequence[Any], dtypes: Sequence[str]) -> FunctionProto | None:
    """The function body by which the standard defines ``node``, for these inputs if it depends on them."""
    schema = schema_of(node.domain, node.op_type, opset)
    if schema is None:
        return None
    if schema.has_function:
        fitting = [v for v in schema.function_opset_versions if v <= opset]
        raw = schema.get_function_with_opset_version(max(fitting)) if fitting else schema.function_body
        return _parsed(raw)
    if not schema.has_context_dependent_function:
        return None
    types = [_type_proto(value, dtype).SerializeToString() for value, dtype in zip(inputs, dtypes, strict=True)]
    fitting = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
    version = max(fitting, default=schema.since_version)
    raw = schema.get_context_dependent_function_with_opset_version(version, node.SerializeToString(), types)
    return _parsed(raw) if raw else None


def _parsed(raw: Any) -> FunctionProto:
    if isinstance(raw, FunctionProto):
        return raw
    function = FunctionProto()
    function.ParseFromString(raw)
    return function


def _type_proto(value: Any, dtype: str) -> TypeProto:
    if value is None:
        return TypeProto()
    if isinstance(value, list):
        inner = _type_proto(value[0], dtype) if value else onnx.helper.make_tensor_type_proto(1, None)
        return onnx.helper.make_sequence_type_proto(inner)
    return onnx.helper.make_tensor_type_proto(_element_number(dtype), value.shape)


@functools.cache
def _element_number(dtype: str) -> int:
    numbers = [int(number) for number in onnx.TensorProto.DataType.values() if number]
    return next(number for number in numbers if element_name(number) == dtype)


def default_attributes(domain: str, op_type: str, opset: int) -> dict[str, onnx.AttributeProto]:
    """The attributes to which the schema gives a default."""
    schema = schema_of(domain, op_type, opset)
    if schema is None:
        return {}
    found = {name: attribute.default_value for name, attribute in schema.attributes.items()}
    return {name: value for name, value in found.items() if value.type != onnx.AttributeProto.UNDEFINED}


@functools.cache
def _sources(domain: str, op_type: str, opset: int, n_inputs: int, index: int) -> tuple[str, tuple[int, ...]]:
    """The fixed element type of an output (or ``""``), and the inputs that share its type variable."""
    schema = schema_of(domain, op_type, opset)
    if schema is None or not schema.outputs:
        return "", tuple(range(n_inputs))
    wanted = schema.outputs[min(index, len(schema.outputs) - 1)].type_str
    if wanted.startswith("tensor("):
        onnx_name = wanted[len("tensor(") : -1]
        return {"float": "float32", "double": "float64"}.get(onnx_name, onnx_name), ()
    last = len(schema.inputs) - 1
    same = tuple(i for i in range(n_inputs) if last >= 0 and schema.inputs[min(i, last)].type_str == wanted)
    return "", same or tuple(range(n_inputs))


def declared_outputs(
    node: NodeProto,
    opset: int,
    attributes: Mapping[str, Any],
    input_dtypes: Sequence[str],
    outputs: Sequence[Any],
) -> tuple[str, ...]:
    """The declared element type of each output: what a runtime would store, whatever the referee holds.

    Lifted values do not show it, so it follows from the schema: a fixed type, a type attribute, or the
    type of the inputs that share the type variable. Default ``float32``.
    """
    return tuple(_declared(node, opset, attributes, input_dtypes, index, value) for index, value in enumerate(outputs))


def _declared(
    node: NodeProto,
    opset: int,
    attributes: Mapping[str, Any],
    input_dtypes: Sequence[str],
    index: int,
    value: Any,
) -> str:
    if isinstance(value, list):
        value = value[0] if value else None
    if value is None:
        return ""
    if not isinstance(value, np.ndarray) or value.dtype != np.float64:
        return dtype_name(np.asarray(value).dtype)
    for name in _TYPE_ATTRIBUTES:
        number = attributes.get(name)
        if isinstance(number, int) and number and element_name(number) in FLOATS:
            return element_name(number)
    if node.op_type == "ConstantOfShape" and "value" in attributes:
        return dtype_name(attributes["value"].dtype)
    fixed, sources = _sources(node.domain, node.op_type, opset, len(input_dtypes), index)
    if fixed:
        return fixed
    found = (input_dtypes[i] for i in sources if input_dtypes[i] in FLOATS)
    return next(found, "float32")
