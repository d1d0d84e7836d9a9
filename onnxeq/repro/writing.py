"""A repro's folder: written beside its place and renamed into it, so that there is a whole one or none."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import numpy_helper

from onnxeq.arrays import dtype_of
from onnxeq.errors import UsageError
from onnxeq.graph.files import write
from onnxeq.repro.shrinking import shrink
from onnxeq.repro.texts import culprit, report_text, script_text
from onnxeq.repro.values import Case, Execute, Fault, Repro
from onnxeq.types import Array

__all__ = ["check_folder", "write_folder", "write_repro"]

INLINE_BYTES = 1 << 30
"""Bytes of constants up to which they lie in ``model.onnx`` itself."""

_LONGEST = 60


def check_folder(path: Path) -> None:
    """Checks before the work begins that faults can be written into a folder.

    Raises:
        UsageError: It is not empty, is no folder, may not be written, or has no parent.
    """
    if path.is_dir():
        if any(path.iterdir()):
            raise UsageError(f"--repro {path}: the folder is not empty", hint="name a new one")
        place = path
    elif path.exists() or path.is_symlink():
        raise UsageError(f"--repro {path}: is no folder", hint="name a new one")
    else:
        place = path.absolute().parent
        if not place.is_dir():
            raise UsageError(f"--repro {path}: there is no folder {path.parent}", hint="create it first")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"--repro {path}: {place} may not be written", hint="name a folder of your own")


def write_repro(folder: Path, fault: Fault, *, execute: Execute | None = None) -> Path:
    """Makes a fault as small as it can be and writes it as ``folder/NN_name``.

    The folder holds ``model.onnx``, ``inputs.npz`` (exactly its inputs), ``expected.npz`` (what should come out, in
    float64 for a float, and under the same name with ``" unit"`` one noise unit for each element), ``repro.py``,
    ``REPORT.md``, and ``test_data_set_0`` with ``input_i.pb`` and ``output_0.pb``.

    Args:
        folder: Where faults lie; made when it is not there.
        fault: The fault.
        execute: What runs the cut graphs, see :func:`onnxeq.repro.shrinking.shrink`.

    Raises:
        onnxeq.errors.CannotRun: The layer cannot be cut out.
    """
    return write_folder(folder, fault, shrink(fault, execute))


def write_folder(folder: Path, fault: Fault, repro: Repro) -> Path:
    """Writes what :func:`onnxeq.repro.shrinking.shrink` has found; see :func:`write_repro`."""
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=folder, prefix=".repro."))
    try:
        _fill(staged, fault, repro)
        staged.chmod(0o755)
        place = folder / f"{_next_number(folder):02d}_{_slug(*culprit(fault, repro))}"
        staged.rename(place)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        if new:
            with contextlib.suppress(OSError):  # another fault has been written there meanwhile
                folder.rmdir()
        raise
    return place


def _fill(folder: Path, fault: Fault, repro: Repro) -> None:
    case = repro.case
    write(case.model, folder / "model.onnx", inline_bytes=INLINE_BYTES)
    _write_arrays(folder / "inputs.npz", case.inputs)
    right = _writable(case.right)
    _write_arrays(folder / "expected.npz", {case.output: right, f"{case.output} unit": case.whole_unit()})
    _write_data_set(folder / "test_data_set_0", case)
    (folder / "repro.py").write_text(script_text(fault, repro), encoding="utf-8")
    (folder / "REPORT.md").write_text(report_text(fault, repro), encoding="utf-8")


def _write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """An ``.npz`` file; ``numpy.savez`` takes no array by the name of its own parameters (``file``)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # of a fixed date: the same arrays make the same file
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, _writable(array), allow_pickle=False)


def _writable(array: Array) -> Array:
    return array.astype(np.str_) if array.dtype.kind in "OUS" else array


def _write_data_set(folder: Path, case: Case) -> None:
    folder.mkdir()
    for i, (name, array) in enumerate(case.inputs.items()):
        (folder / f"input_{i}.pb").write_bytes(numpy_helper.from_array(array, name).SerializeToString())
    right = case.right.astype(dtype_of(case.dtype)) if case.right.dtype.kind == "f" else case.right
    (folder / "output_0.pb").write_bytes(numpy_helper.from_array(right, case.output).SerializeToString())


def _next_number(folder: Path) -> int:
    found = (re.match(r"(\d+)_", path.name) for path in folder.iterdir())
    return max((int(number[1]) for number in found if number), default=0) + 1


def _slug(*words: str) -> str:
    """A name that every file system takes."""
    text = re.sub(r"[^A-Za-z0-9.]+", "_", "_".join(words)).strip("_.")
    return text[:_LONGEST].rstrip("_.")
