"""ONNX files: read with suspicion, written at once or not at all.

A file may be missing, empty, truncated, text, or another protobuf; its external data may be missing, cut
off, or point out of the model's folder (absolute path, ``..``, symbolic link). Each is an
:class:`~onnxeq.errors.UnusableModel` of one line.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from onnxeq.errors import UnusableModel
from onnxeq.graph.tensors import all_graphs, is_external, light, stored_tensors
from onnxeq.graph.wire import COUNTED_FROM, GROUPS, excess

__all__ = ["INLINE_BYTES", "check", "external_files", "load", "read", "regular", "with_data", "write"]

INLINE_BYTES = 2**31 - 2**24
"""Tensor bytes that fit into one file: a protobuf holds less than 2 GiB, graph included."""

_EXPERIMENTAL = frozenset(
    {"ATen", "Affine", "ConstantFill", "Crop", "DynamicSlice", "GRUUnit", "GivenTensorFill", "ImageScaler",
     "ParametricSoftplus", "Scale", "ScaledTanh"}
)  # fmt: skip
"""Operators of the standard domain that were withdrawn; the checker accepts them, with a line on *stdout*."""

_AGAIN = "Fetch or export it again."


@dataclass(frozen=True)
class _Extent:
    """Where the bytes of an external tensor lie; ``length`` is ``None`` for "to the end"."""

    file: Path
    offset: int
    length: int | None


def regular(path: Path) -> None:
    """Makes sure that a path is a file that can hold a model, before it is opened: a pipe never ends.

    Raises:
        onnxeq.errors.UnusableModel: With what it is instead.
    """
    try:
        if path.is_dir():
            hint = "Name the .onnx file in it."
            raise UnusableModel(f"{path}: is a directory, not an ONNX file", hint=hint)
        if not path.exists():
            raise UnusableModel(f"{path}: no such file", hint="Check the path.")
        if not path.is_file():
            raise UnusableModel(f"{path}: is no regular file")
        size = path.stat().st_size
        if size == 0:
            raise UnusableModel(f"{path}: is empty (0 bytes)", hint=_AGAIN)
        if size >= 2**31:
            hint = "Store its tensors as external data."
            raise UnusableModel(f"{path}: has {size} bytes, a protobuf holds less than {2**31}", hint=hint)
    except OSError as error:
        raise UnusableModel(f"{path}: cannot be read ({error.strerror})") from error


def _bytes(path: Path) -> bytes:
    regular(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableModel(f"{path}: cannot be read ({error.strerror})") from error


def _not_a_model(path: Path, data: bytes) -> UnusableModel:
    """The most helpful thing to say about bytes that are no model."""
    head = data[:512]
    if head.startswith(b"version https://git-lfs"):
        return UnusableModel(f"{path}: is a Git LFS pointer, not the model", hint="Run git lfs pull.")
    for magic, kind in ((b"PK\x03\x04", "a ZIP archive (.pt, .keras)"), (b"\x89HDF", "an HDF5 file"),
                        (b"\x1f\x8b", "a gzip archive")):  # fmt: skip
        if head.startswith(magic):
            return UnusableModel(f"{path}: is {kind}, not an ONNX file")
    if data[4:8] == b"TFL3":
        return UnusableModel(f"{path}: is a TensorFlow Lite file, not an ONNX file")
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if text and all(c.isprintable() or c in "\r\n\t" for c in text):
        return UnusableModel(f"{path}: is text, not an ONNX file", hint=_AGAIN)
    return UnusableModel(f"{path}: holds no ONNX model (truncated, or another kind of file)", hint=_AGAIN)


def read(path: Path) -> onnx.ModelProto:
    """The model as its file holds it; external data is neither read nor looked at.

    Raises:
        onnxeq.errors.UnusableModel: There is no ONNX model in the file.
    """
    data = _bytes(path)
    model = onnx.ModelProto()
    if len(data) > COUNTED_FROM and (reason := excess(data)):
        raise UnusableModel(f"{path}: {reason}", hint=_AGAIN)
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        # What the parser refuses, too, is some other kind of file: letters begin groups.
        if (reason := excess(data)) and reason != GROUPS:
            raise UnusableModel(f"{path}: {reason}", hint=_AGAIN) from error
        raise _not_a_model(path, data) from error
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise _not_a_model(path, data)
    if not model.graph.output:
        raise UnusableModel(f"{path}: the graph has no outputs", hint=_AGAIN)
    if not model.opset_import and model.ir_version >= 3:  # written after the graph: the end is cut off
        raise UnusableModel(f"{path}: the model names no operator set (truncated)", hint=_AGAIN)
    return model


def _extent(tensor: onnx.TensorProto, folder: Path) -> _Extent:
    """Where the tensor's bytes lie, made sure that it is inside ``folder`` and that they are there."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    name = f"external data of tensor {tensor.name!r}"
    if not location:
        raise UnusableModel(f"{name}: names no file", hint=_AGAIN)
    parts = location.replace("\\", "/").split("/")
    if Path(location).is_absolute() or location[:1] in "/\\" or ".." in parts or "\0" in location:
        raise UnusableModel(f"{name}: {location!r} points outside the model's folder")
    file = folder / location
    try:
        inside = file.resolve().is_relative_to(folder.resolve())
        there, plain = file.exists(), file.is_file()
    except (OSError, RuntimeError):  # a name too long, or links in a circle
        inside, there, plain = True, False, False
    if not inside:
        raise UnusableModel(f"{name}: {location!r} is a link that leads outside the model's folder")
    if not there:
        shown = location if len(location) <= 200 else f"{location[:200]}..."
        raise UnusableModel(f"{name}: there is no file {shown!r}", hint="It belongs beside the model.")
    if not plain:
        raise UnusableModel(f"{name}: {location!r} is no regular file")
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries["length"]) if entries.get("length") else None
    except ValueError as error:
        raise UnusableModel(f"{name}: offset or length is no number") from error
    size = file.stat().st_size
    end = offset + (length or 0)
    if offset < 0 or (length is not None and length < 0) or end > size:
        raise UnusableModel(f"{name}: bytes {offset} to {end} of {location!r}, which has {size}", hint=_AGAIN)
    return _Extent(file, offset, length)


def external_files(model: onnx.ModelProto, folder: Path) -> tuple[Path, ...]:
    """The files that hold external data, each checked; no byte of them is read.

    Raises:
        onnxeq.errors.UnusableModel: One is missing, too short, or outside ``folder``.
    """
    found = [_extent(t, folder).file for t in stored_tensors(model) if is_external(t)]
    return tuple(sorted(set(found)))


def with_data(model: onnx.ModelProto, folder: Path | None) -> onnx.ModelProto:
    """The model with its external data read in; itself when it has none.

    Raises:
        onnxeq.errors.UnusableModel: As :func:`external_files`; or ``folder`` was needed and not given.
    """
    if not any(is_external(t) for t in stored_tensors(model)):
        return model
    if folder is None:
        raise UnusableModel(
            "the model in memory has external data and no folder to read it from", hint="Give base_dir."
        )
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in stored_tensors(copy):
        if is_external(tensor):
            extent = _extent(tensor, folder)
            with extent.file.open("rb") as stream:
                stream.seek(extent.offset)
                tensor.raw_data = stream.read(-1 if extent.length is None else extent.length)
            tensor.ClearField("external_data")
            tensor.data_location = onnx.TensorProto.DEFAULT
    return copy


def load(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Reads a model with its external data, checks the data's size and place.

    Raises:
        onnxeq.errors.UnusableModel: The file, or data that it refers to, cannot be used.
    """
    path = Path(path)
    return with_data(read(path), path.parent)


def _too_short(tensor: onnx.TensorProto) -> str:
    """What is wrong with the size of an inline tensor, or an empty string."""
    if is_external(tensor) or not tensor.HasField("raw_data"):
        return ""
    try:
        item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError:
        return f"has the unknown element type {tensor.data_type}"
    if any(dim < 0 for dim in tensor.dims):
        return "has a negative size"
    count = int(np.prod(tensor.dims, dtype=object)) if tensor.dims else 1
    packed = item.name.endswith(("int4", "int2", "e2m1fn"))  # several elements in a byte
    needed = count * item.itemsize
    held = len(tensor.raw_data)
    return "" if held == needed or packed else f"holds {held} bytes, {needed} needed"


def _known_to_the_checker(model: onnx.ModelProto) -> onnx.ModelProto:
    """Moves removed experimental operators of a light copy to a domain that the checker leaves alone."""
    moved = False
    for graph in all_graphs(model.graph):
        for node in graph.node:
            if node.domain in ("", "ai.onnx") and node.op_type in _EXPERIMENTAL:
                node.domain, moved = "experimental", True
    if moved:
        model.opset_import.add(domain="experimental", version=1)
    return model


def check(model: onnx.ModelProto, *, sizes: bool = True) -> None:
    """Runs the ONNX checker; with ``sizes`` compares each tensor's bytes with its shape, too.

    Raises:
        onnxeq.errors.UnusableModel: With the checker's first line.
    """
    for tensor in stored_tensors(model) if sizes else ():
        if problem := _too_short(tensor):
            raise UnusableModel(f"tensor {tensor.name!r}: {problem}", hint=_AGAIN)
    try:
        onnx.checker.check_model(_known_to_the_checker(light(model)))
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        line = next((text.strip() for text in str(error).splitlines() if text.strip()), "no reason given")
        raise UnusableModel(f"the ONNX checker rejects the model: {line}") from error


def write(
    model: onnx.ModelProto,
    path: str | os.PathLike[str],
    *,
    provenance: Mapping[str, str] | None = None,
    inline_bytes: int = INLINE_BYTES,
) -> Path:
    """Writes a model; a reader sees the old file or the new one, never a part.

    Args:
        model: The model, with its data in memory; it is not changed.
        path: The file. Above ``inline_bytes`` of tensors the data goes into ``NAME.HASH.data`` beside it,
            written first: until the model itself is renamed into place, the old one stays whole.
        provenance: Entries for ``metadata_props``.
        inline_bytes: Most tensor bytes to keep in the file itself.

    Returns:
        The file.
    """
    path = Path(path)
    large = sum(len(t.raw_data) for t in stored_tensors(model)) > inline_bytes
    if provenance or large:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        model = copy
    if provenance:
        merged = {p.key: p.value for p in model.metadata_props} | dict(provenance)
        onnx.helper.set_model_props(model, merged)
    path.parent.mkdir(parents=True, exist_ok=True)
    if large:
        _write_data(model, path)
    _replace(path, model.SerializeToString())
    return path


def _replace(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    staged = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        staged.chmod(0o644)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def _write_data(model: onnx.ModelProto, path: Path) -> None:
    """Moves the tensors' bytes into a file beside ``path`` that is named by its contents."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    staged, digest, offset = Path(name), hashlib.sha256(), 0
    moved: list[tuple[onnx.TensorProto, int, int]] = []
    try:
        with os.fdopen(handle, "wb") as stream:
            for tensor in model.graph.initializer:
                if len(tensor.raw_data) < 1024:
                    continue
                stream.write(tensor.raw_data)
                digest.update(tensor.raw_data)
                moved.append((tensor, offset, len(tensor.raw_data)))
                offset += len(tensor.raw_data)
        location = f"{path.name}.{digest.hexdigest()[:12]}.data"
        staged.chmod(0o644)
        staged.replace(path.parent / location)
    finally:
        staged.unlink(missing_ok=True)
    for tensor, start, length in moved:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(start)), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
