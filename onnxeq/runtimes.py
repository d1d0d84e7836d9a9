"""Which runtime stands on the ladder: named by the user, found without being imported.

A runner is written ``NAME``, an entry point of the group ``onnxeq.runners``; or ``module:object`` or
``FILE.py:object`` (the object may be left out where the module itself is the runner). After ``?`` stand settings of its
own: ``openvino?INFERENCE_PRECISION_HINT=f32&NUM_STREAMS=1``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import machinery, metadata
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from onnxeq import fingerprint
from onnxeq.errors import UsageError

__all__ = ["DEFAULT", "RUNNER_GROUP", "Runtime", "choose_runner", "installed_runners"]

RUNNER_GROUP = "onnxeq.runners"

BUILT_IN = {"ort": "onnxeq.runners.ort", "openvino": "onnxeq.runners.openvino"}
"""Runners that this package brings: they are there also where its metadata is older than its code."""


_WRITTEN = "a runner is written NAME, module:object or FILE.py:object"


@dataclass(frozen=True)
class Runtime:
    """The runtime that is judged.

    Attributes:
        name: As the user calls it, settings aside.
        target: What to import: ``module``, ``module:object`` or ``FILE.py:object``.
        settings: Handed to the runner with every session.
        mark: What it is made of, for the cache: another version gives other results.
    """

    name: str = "ort"
    target: str = BUILT_IN["ort"]
    settings: Mapping[str, str] = field(default_factory=dict)
    mark: str = ""

    @property
    def shown(self) -> str:
        """Its name in a sentence."""
        return "onnxruntime" if self.name == "ort" else self.name

    @property
    def deployed(self) -> str:
        """The execution as deployed, all optimisations on."""
        return "ort/cpu" if self.name == "ort" else self.name

    @property
    def plain(self) -> str:
        """The execution with every graph optimisation off."""
        return f"{self.deployed} plain"

    @property
    def kind(self) -> str:
        """The kind of its jobs: the process of onnxruntime's imports it while it waits."""
        return "ort" if self.target == BUILT_IN["ort"] else "runtime"

    def params(self) -> dict[str, Any]:
        """What a job needs to know of it; part of the cache key."""
        return {"target": self.target, "name": self.name, "settings": dict(self.settings), "mark": self.mark}


DEFAULT = Runtime()


def installed_runners() -> dict[str, str]:
    """Name -> what to import, without importing any."""
    found = {entry.name: entry.value for entry in metadata.entry_points(group=RUNNER_GROUP)}
    return dict(sorted((found | BUILT_IN).items()))


def choose_runner(text: str | None) -> Runtime:
    """The runtime that the user named; onnxruntime by default.

    Raises:
        UsageError: There is none of that name; lists those that there are.
    """
    if not text:
        return DEFAULT
    name, _, query = text.partition("?")
    settings = dict(parse_qsl(query, keep_blank_values=True))
    known = installed_runners()
    if name in known:
        return Runtime(name, known[name], settings, _mark(name, known[name]))
    module, _, item = name.partition(":")
    if module.endswith(".py"):
        path = Path(module).resolve()
        if not path.is_file():
            raise UsageError(f"there is no file {module}", hint=_WRITTEN)
        return Runtime(item or path.stem, f"{path}:{item}", settings, fingerprint.of_path(path))
    if item or "." in module:
        return Runtime(item or module, name, settings, _mark("", name))
    raise UsageError(
        f"there is no runner '{name}'",
        hint=f"installed: {', '.join(known)}; {_WRITTEN}",
    )


def _mark(entry: str, target: str) -> str:
    """Version and source of a third party's runner; empty for ours, whose code is part of every cache key."""
    if target in BUILT_IN.values():
        return ""
    digest = hashlib.sha256()
    for found in metadata.entry_points(group=RUNNER_GROUP, name=entry) if entry else ():
        if found.dist is not None:
            digest.update(f"{found.dist.name} {found.dist.version};".encode())
    for path in _sources(target.partition(":")[0]):
        digest.update(f"{path.name}:{fingerprint.of_path(path)};".encode())
    return digest.hexdigest()


def _sources(module: str) -> list[Path]:
    """The Python files of a module's outermost package, found without importing it."""
    spec = machinery.PathFinder.find_spec(module.partition(".")[0])
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [path for root in spec.submodule_search_locations for path in sorted(Path(root).rglob("*.py"))]
    return [Path(spec.origin)] if spec.origin and Path(spec.origin).is_file() else []
