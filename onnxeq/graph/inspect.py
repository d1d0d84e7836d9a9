"""What an ONNX file is, without running it and without reading its external data into memory."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnxeq import fingerprint
from onnxeq.errors import OnnxeqError, UnusableModel
from onnxeq.graph.files import external_files, load
from onnxeq.graph.skim import Skimmed, skim
from onnxeq.graph.tensors import all_graphs
from onnxeq.graph.texts import check_texts
from onnxeq.graph.trusted import examine
from onnxeq.referee.elements import element_name
from onnxeq.types import Dim, TensorSpec

__all__ = ["ModelInfo", "inspect", "load", "newest_opset"]


@dataclass(frozen=True)
class ModelInfo:
    """What a model says about itself.

    Attributes:
        inputs: What a caller must give. A size of unknown name is ``?``.
        overridable: Inputs that have a default, because an initializer bears their name.
        outputs: What it gives.
        opsets: Version by domain; the standard domain is ``ai.onnx``.
        ir_version: Version of the file format.
        producer: The exporter and its version, ``pytorch 2.13``.
        nodes: Nodes in the graph and its sub-graphs.
        operators: How often each operator occurs there, most frequent first.
        parameters: Elements in all initializers.
        parameter_bytes: Their bytes.
        external: Names of the files that hold external data.
        functions: Model-local functions, ``domain::name``.
        metadata: The model's own key-value pairs.
        sha256: Of the file, or with external data of the concatenated SHA-256 digests (32 bytes each) of
            the file and of each data file by name. For a model in memory: of its deterministic form.
    """

    inputs: tuple[TensorSpec, ...]
    overridable: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opsets: Mapping[str, int]
    ir_version: int
    producer: str
    nodes: int
    operators: Mapping[str, int]
    parameters: int
    parameter_bytes: int
    external: tuple[str, ...]
    functions: tuple[str, ...]
    metadata: Mapping[str, str]
    sha256: str


def newest_opset() -> int:
    """The newest version of the standard operators that the installed onnx knows."""
    return int(onnx.defs.onnx_opset_version())


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)  # exporters write -1 for one that is free, and runtimes take it as that
    return str(dim.dim_param) or "?"


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return TensorSpec(value.name, (kind or "unknown").removesuffix("_type"), None)
    tensor = value.type.tensor_type
    shape = tuple(_dim(d) for d in tensor.shape.dim) if tensor.HasField("shape") else None
    return TensorSpec(value.name, element_name(tensor.elem_type), shape)


def _size(tensor: onnx.TensorProto, left_out: Mapping[str, int]) -> tuple[int, int]:
    """Elements and bytes, from the declared shape: external data is not read."""
    count = math.prod(max(0, dim) for dim in tensor.dims)
    if tensor.name in left_out and not tensor.HasField("raw_data"):
        return count, left_out[tensor.name]
    if tensor.data_type == onnx.TensorProto.STRING:
        return count, sum(len(text) for text in tensor.string_data)
    if tensor.HasField("raw_data"):
        return count, len(tensor.raw_data)
    try:
        return count, count * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError as error:
        raise UnusableModel(f"tensor {tensor.name!r}: unknown element type {tensor.data_type}") from error


def _sha256(path: Path, external: tuple[Path, ...]) -> str:
    own = fingerprint.of_path(path)
    if not external:
        return own
    return hashlib.sha256(b"".join(map(bytes.fromhex, (own, *map(fingerprint.of_path, external))))).hexdigest()


def inspect(model: onnx.ModelProto | str | os.PathLike[str]) -> ModelInfo:
    """Describes a model; a file is let in only after :func:`onnxeq.graph.trusted.examine`.

    Raises:
        onnxeq.errors.UnusableModel: The file is no ONNX model, or its external data is missing, too short,
            or outside its folder; or it is not what it says.
        onnxeq.errors.CannotRun: It needs more memory than there is.
    """
    if isinstance(model, onnx.ModelProto):
        try:
            whole = model.SerializeToString(deterministic=True)
        except ValueError as error:
            raise UnusableModel("the model in memory is over 2 GiB", hint="Write it and name the file.") from error
        return _describe(Skimmed(model, {}), hashlib.sha256(whole).hexdigest(), ())
    path = Path(model)
    skimmed = skim(path)
    with _named(path):
        check_texts(skimmed.model)
    external = external_files(skimmed.model, path.parent)
    with _named(path):
        examine(skimmed, external)
    names = tuple(file.relative_to(path.parent).as_posix() for file in external)
    return _describe(skimmed, _sha256(path, external), names)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Puts the file's name before what is wrong with it."""
    try:
        yield
    except OnnxeqError as error:
        error.message = f"{path}: {error.message}"
        raise


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def _describe(skimmed: Skimmed, sha256: str, external: tuple[str, ...]) -> ModelInfo:
    model = skimmed.model
    scopes = list(all_graphs(model.graph))
    operators = Counter(_operator(node) for graph in scopes for node in graph.node)
    sizes = [
        _size(tensor, skimmed.left_out if graph is model.graph else {})
        for graph in scopes
        for tensor in graph.initializer
    ]
    sizes += [_size(sparse.values, {}) for graph in scopes for sparse in graph.sparse_initializer]
    stored = {tensor.name for tensor in model.graph.initializer}
    stored |= {sparse.values.name for sparse in model.graph.sparse_initializer}
    declared = [_spec(value) for value in model.graph.input]
    return ModelInfo(
        inputs=tuple(spec for spec in declared if spec.name not in stored),
        overridable=tuple(spec for spec in declared if spec.name in stored),
        outputs=tuple(_spec(value) for value in model.graph.output),
        opsets={entry.domain or "ai.onnx": int(entry.version) for entry in model.opset_import},
        ir_version=int(model.ir_version),
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        nodes=operators.total(),
        operators=dict(operators.most_common()),
        parameters=sum(count for count, _ in sizes),
        parameter_bytes=sum(size for _, size in sizes),
        external=external,
        functions=tuple(f"{f.domain}::{f.name}" for f in model.functions),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        sha256=sha256,
    )
