"""What a result depends on besides its parameters: file contents, package versions, code, machine."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import sys
from importlib import metadata, util
from pathlib import Path
from typing import TypeAlias

from onnxeq.compat import sha256_of

__all__ = ["learn", "machine", "of_code", "of_path", "versions"]

PACKAGES = (
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxsim",
    "onnxscript",
    "openvino",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "tensorflow",
    "keras",
    "tf-keras",
    "tf-models-official",
    "tf2onnx",
)


@functools.cache
def versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = _version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _version(name: str) -> str:
    """A package's version; of its metadata, which ends in a long description, only the line is read that has it."""
    text = metadata.distribution(name).read_text("METADATA") or ""
    line = re.search(r"^Version: *(\S+) *$", text.partition("\n\n")[0], re.MULTILINE)
    return line[1] if line else metadata.version(name)


@functools.cache
def machine() -> dict[str, str]:
    """Platform, processor model and core count: kernels are chosen by them."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {"platform": sys.platform, "cpu": model, "cores": str(os.cpu_count())}


@functools.cache
def of_code() -> str:
    """A mark that changes whenever a source file of this project does, or weights that come with it."""
    digest = hashlib.sha256()
    for package in ("onnxeq", "onnxeq_converters"):
        spec = util.find_spec(package)
        for root in spec.submodule_search_locations or () if spec else ():
            for path in sorted(p for kind in ("*.py", "*.safetensors") for p in Path(root).rglob(kind)):
                stat = path.stat()
                digest.update(f"{path.name}:{stat.st_size}:{stat.st_mtime_ns};".encode())
    return digest.hexdigest()


_Mark: TypeAlias = "tuple[Path, int, int, int]"

_known: dict[_Mark, str] = {}
"""A file is read once as long as it stays as it is: several jobs share a model, and one of them has written it."""


def _mark(path: Path) -> _Mark:
    """What changes when a file does."""
    stat = path.stat()
    return path, stat.st_size, stat.st_mtime_ns, stat.st_ino


def learn(path: Path, sha256: str) -> None:
    """Takes over the SHA-256 that the process which has just written ``path`` gave for it."""
    with contextlib.suppress(OSError):  # somebody removed it meanwhile
        _known[_mark(path)] = sha256


def of_path(path: Path) -> str:
    """SHA-256 of a file's bytes, or of a folder's names and bytes; ``absent`` when there is nothing."""
    if path.is_file():
        mark = _mark(path)
        if mark not in _known:
            with path.open("rb") as file:
                _known[mark] = sha256_of(file)
        return _known[mark]
    if path.is_dir():
        digest = hashlib.sha256()
        for child in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{child.relative_to(path)}:{of_path(child)};".encode())
        return digest.hexdigest()
    return "absent"
