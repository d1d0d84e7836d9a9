"""Traces that were saved: ours, Polygraphy's outputs, and the test data of the ONNX standard, as one side of a diff."""

from __future__ import annotations

import re
import shutil
import uuid
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxeq import inputs as inputs_
from onnxeq import native_values, polygraphy_files, traces
from onnxeq.arrays import feeds_digest, load_feeds, save_feeds
from onnxeq.errors import UnusableModel, UsageError
from onnxeq.traces import TraceWriter
from onnxeq.types import Array, Feed

__all__ = ["Saved", "check_target", "data_set_outputs", "open_saved", "save"]

_INPUTS = "inputs"


@dataclass(frozen=True)
class Saved:
    """A saved trace.

    Attributes:
        folder: A trace in our form.
        feed: The inputs that it was made with; empty where they were not saved.
        name: What it is called in a report.
        model: SHA-256 of the model that made it, where known.
    """

    folder: Path
    feed: Feed
    name: str
    model: str = ""


def check_target(path: Path) -> None:
    """Checks before the work begins that a trace can be saved there.

    Raises:
        UsageError: Something is there already, or the folder around it is missing.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"--save-trace {path}: there is something already", hint="name a new folder")
    if not path.parent.is_dir():
        raise UsageError(f"--save-trace {path}: there is no folder {path.parent}", hint="create it first")


def save(path: Path, held: Path, feed: Feed, record: Mapping[str, Any]) -> None:
    """Writes a trace with its inputs; it appears whole or not at all.

    Args:
        path: The folder to make.
        held: The folder of the trace of a job, of a runtime or a framework.
        feed: The inputs.
        record: What to note besides.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        native = not (held / "trace.json").exists()
        known = native_values.load(held) if native else traces.load(held)
        with TraceWriter(part, {**record, "inputs_sha256": feeds_digest([feed])}) as writer:
            for name in known:
                writer.add(name, known.array(name))
        save_feeds(part / _INPUTS, [feed])  # any name and any element type, which an .npz does not keep
        if path.is_dir():
            path.rmdir()
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def open_saved(path: Path, scratch: Path) -> Saved:
    """Reads a trace: a folder of ours, an ONNX ``test_data_set_N`` folder, or a JSON file (or a
    folder of them) of Polygraphy's outputs.

    Args:
        path: What the user named.
        scratch: Where a trace in our form may be written.

    Raises:
        UsageError: There is nothing of that name.
        UnusableModel: It is none of these, or damaged.
    """
    if not path.exists():
        raise UsageError(f"--load-trace {path}: there is no such file or folder", hint="check the path")
    if path.is_file():
        return _polygraphy(path, scratch)
    if (path / "trace.json").exists():
        held = traces.load(path)
        return Saved(
            path,
            _inputs(path / _INPUTS),
            f"saved {held.record.get('execution', 'trace')}",
            str(held.record.get("model", "")),
        )
    if list(path.glob("output_*.pb")):
        return _data_set(path, scratch)
    if files := sorted(path.glob("*.json")):
        return _polygraphy(files[0], scratch)  # --save-outputs FOLDER: a file for each iteration
    raise UnusableModel(f"{path} holds neither trace.json nor output_N.pb", hint="onnxeq diff --save-trace writes one")


def _inputs(folder: Path) -> Feed:
    """The inputs beside a trace; empty where there are none."""
    if not folder.is_dir():
        return {}
    try:
        (feed,) = load_feeds(folder)
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile) as error:
        said = " ".join(str(error).split())
        raise UnusableModel(f"the inputs of the trace {folder.parent.name} are damaged: {said}") from error
    return feed


def _written(scratch: Path, values: Iterable[tuple[str, Array]]) -> Path:
    folder = scratch / f"trace-{uuid.uuid4().hex[:12]}"
    with TraceWriter(folder) as writer:
        for name, value in values:
            writer.add(name, value)
    return folder


def data_set_outputs(path: Path) -> dict[str, Array]:
    """The outputs of an ONNX ``test_data_set_N`` folder by name; ``#0``, ``#1`` for those without one.

    Raises:
        UnusableModel: A file holds no tensor.
    """
    import onnx
    from onnx import numpy_helper

    found: dict[str, Array] = {}
    for file in sorted(path.glob("output_*.pb"), key=_number_in):
        try:
            tensor = onnx.TensorProto.FromString(file.read_bytes())
            found[tensor.name or f"#{_number_in(file)}"] = numpy_helper.to_array(tensor)  # as inputs without a name
        except Exception as error:  # protobuf's and numpy's own kinds
            raise UnusableModel(f"{file} is no tensor: {' '.join(str(error).split())}") from error
    return found


def _data_set(path: Path, scratch: Path) -> Saved:
    feed = inputs_.read([path])[0] if list(path.glob("input_*.pb")) else {}
    return Saved(_written(scratch, data_set_outputs(path).items()), feed, path.name)


def _number_in(path: Path) -> int:
    return int(re.sub(r"\D", "", path.stem) or 0)


def _polygraphy(path: Path, scratch: Path) -> Saved:
    """Outputs that ``polygraphy run --save-outputs`` wrote: of the first runner's first iteration."""
    try:
        runner, values = polygraphy_files.read_outputs(path)
        # An element type that .npy cannot name (bfloat16) comes back as bytes: nothing says what they mean.
        return Saved(_written(scratch, ((n, v) for n, v in values if v.dtype.kind != "V")), {}, f"saved {runner}")
    except polygraphy_files.Damaged as error:
        said = f"{path} is no file of Polygraphy's outputs: {error}"
        raise UnusableModel(said, hint="polygraphy run MODEL --onnxrt --save-outputs FILE.json writes one") from error
