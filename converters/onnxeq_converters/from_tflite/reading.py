"""What a TensorFlow Lite file says by itself: its operators, and which tensors are constants.

Read with the schema that tf2onnx brings. Nothing of the file runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxeq.errors import UnusableModel
from onnxeq_converters.from_tensorflow.framework import first_line, require

__all__ = ["Contents", "Operator", "read"]

_IDENTIFIER = b"TFL3"


@dataclass(frozen=True)
class Operator:
    """One operator of the main graph.

    Attributes:
        kind: ``CONV_2D``; of a custom one the name that the file gives it.
        inputs: Indices of the tensors that it reads; -1 where one is left out.
        outputs: Indices of the tensors that it makes.
        fused: ONNX operators that tf2onnx makes of what it computes besides, in order: a bias, an activation.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    fused: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """The main graph of a file, and the custom operators of all its graphs.

    Attributes:
        operators: In the order in which they run.
        names: Of the tensors, by index.
        constants: Indices of the tensors with a stored value.
        quantized: Indices of the tensors in integers with a scale.
        custom: Names of the operators that are not the runtime's own, in alphabetical order.
    """

    operators: tuple[Operator, ...]
    names: tuple[str, ...]
    constants: tuple[int, ...]
    quantized: frozenset[int]
    custom: tuple[str, ...]


def read(path: Path) -> Contents:
    """Reads a file.

    Raises:
        onnxeq.errors.UnusableModel: It is missing, or no TensorFlow Lite file.
    """
    if not path.is_file():
        raise UnusableModel(f"no such file: {path}")
    data = path.read_bytes()
    if data[4:8] != _IDENTIFIER:
        raise UnusableModel(
            f"{path} is no TensorFlow Lite file: it has no '{_IDENTIFIER.decode()}' at byte 4",
            hint="it may be truncated or mislabelled",
        )
    try:
        return _contents(require("tf2onnx.tflite.Model").Model.GetRootAsModel(bytearray(data), 0))
    except UnusableModel:
        raise
    except Exception as error:  # offsets that lead out of the file raise anything
        raise UnusableModel(f"{path} is damaged: {first_line(error)}", hint="it may be truncated") from error


def _contents(model: Any) -> Contents:
    kinds = [_kind(model.OperatorCodes(i)) for i in range(model.OperatorCodesLength())]
    graph = model.Subgraphs(0)
    tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
    return Contents(
        tuple(_operators(graph, [name for name, _ in kinds])),
        tuple((t.Name() or b"").decode(errors="replace") for t in tensors),
        tuple(i for i, t in enumerate(tensors) if t.Buffer() > 0 and not model.Buffers(t.Buffer()).DataIsNone()),
        frozenset(i for i, t in enumerate(tensors) if t.Quantization() and not t.Quantization().ScaleIsNone()),
        tuple(sorted({name for name, custom in kinds if custom} | _flexible(graph, kinds))),
    )


def _kind(code: Any) -> tuple[str, bool]:
    """An operator's name, and whether it is a custom one. A number above 126 stands in a field of its own."""
    kinds = require("tf2onnx.tflite.BuiltinOperator").BuiltinOperator
    number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    if number == kinds.CUSTOM:
        return (code.CustomCode() or b"").decode(errors="replace"), True
    known = {value: name for name, value in vars(kinds).items() if not name.startswith("_")}
    return known.get(number, f"operator {number}"), False


def _flexible(graph: Any, kinds: list[tuple[str, bool]]) -> set[str]:
    """TensorFlow's operators in the options of Flex operators: the runtime goes by these, not by the kind's name."""
    found = set()
    for i in range(graph.OperatorsLength()):
        op = graph.Operators(i)
        name, custom = kinds[op.OpcodeIndex()]
        if custom and name.startswith("Flex") and not op.CustomOptionsIsNone():
            stored = require("tf2onnx.flexbuffers").read_flexbuffer(
                op.CustomOptionsAsNumpy().tobytes(), decode_strings=False
            )
            node = require("tensorflow.core.framework.node_def_pb2").NodeDef.FromString(stored[1])
            found |= {f"Flex{stored[0].decode(errors='replace')}", f"Flex{node.op}"}
    return found


def _operators(graph: Any, kinds: list[str]) -> Iterator[Operator]:
    for i in range(graph.OperatorsLength()):
        op = graph.Operators(i)
        inputs = tuple(op.Inputs(k) for k in range(op.InputsLength()))
        outputs = tuple(op.Outputs(k) for k in range(op.OutputsLength()))
        kind = kinds[op.OpcodeIndex()]
        yield Operator(kind, inputs, outputs, (*_bias(kind, inputs), *_activation(op)))


def _bias(kind: str, inputs: tuple[int, ...]) -> tuple[str, ...]:
    return ("Add",) if kind == "FULLY_CONNECTED" and len(inputs) > 2 and inputs[2] >= 0 else ()


_ACTIVATIONS = {"RELU": "Relu", "RELU6": "Clip", "TANH": "Tanh"}
"""Those that tf2onnx can split off."""


def _activation(op: Any) -> tuple[str, ...]:
    """The activation that an operator applies to its own result."""
    utils = require("tf2onnx.tflite_utils")
    options_class = utils.get_options_class(utils.lookup_enum(op.BuiltinOptionsType(), "BuiltinOptions"))
    if not hasattr(options_class, "FusedActivationFunction"):
        return ()
    options, stored = options_class(), op.BuiltinOptions()
    options.Init(stored.Bytes, stored.Pos)
    name = utils.lookup_enum(options.FusedActivationFunction(), "ActivationFunctionType")
    return (_ACTIVATIONS[name],) if name in _ACTIVATIONS else ()
