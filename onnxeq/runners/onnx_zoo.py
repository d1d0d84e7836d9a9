"""The ONNX Model Zoo as jobs: what it lists, and one of its models as a file.

The nine light models inside the ``onnx`` package are always there. The zoo itself was once read through ``onnx.hub``,
which onnx dropped in 2026 (onnx/onnx#7678) when the files had moved from the repository ``onnx/models``, where the
manifest still lies, to ``onnxmodelzoo/legacy_models`` at Hugging Face, under the same paths.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

from onnxeq.errors import UnknownModel, UnusableModel, WeightsUnavailable
from onnxeq.graph import files
from onnxeq.graph.inspect import inspect
from onnxeq.graph.seeding import calibrated, seeded
from onnxeq.inputs import generate
from onnxeq.records import spec_to_record
from onnxeq.worker import Job

__all__ = ["catalogue", "fetch", "light_models", "light_row"]

MANIFEST = "https://raw.githubusercontent.com/onnx/models/main/ONNX_HUB_MANIFEST.json"
MODELS = "https://huggingface.co/onnxmodelzoo/legacy_models/resolve/main/"

_SILENCE_S = 15.0
"""Longest silence of a server; without a limit, a blocked network hangs for minutes."""

_INPUTS = 2
"""Inputs that random weights are calibrated on, where the batch may vary."""

_CHUNK = 2**20


def light_models() -> dict[str, Path]:
    """Name -> file of the models inside the ``onnx`` package, which is not imported."""
    spec = util.find_spec("onnx")
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    folder = Path(roots[0]) / "backend/test/data/light" if roots else Path()
    return {path.stem: path for path in sorted(folder.glob("light_*.onnx"))}


def catalogue(job: Job) -> dict[str, Any]:
    """The models of ``onnx-zoo``: the light ones, and those of the manifest where there is a network."""
    job.step("list")
    rows = [light_row(name, path) for name, path in light_models().items()]
    try:
        listed = _manifest()
    except WeightsUnavailable as error:
        return {"entries": rows, "missing": error.message}
    return {"entries": [*rows, *(_row(entry) for entry in listed)], "missing": ""}


def light_row(name: str, path: Path) -> dict[str, Any]:
    """A light model as the catalogue lists it."""
    return {
        "name": name,
        "family": name.removeprefix("light_"),
        "inputs": [spec_to_record(s) for s in inspect(path).inputs],
        "note": "inside the onnx package; its weights are constants: @seeded gives it random ones",
    }


def fetch(job: Job) -> dict[str, Any]:
    """Writes the model ``job.params['name']`` to ``out/model.onnx``, with random weights where a seed is given.

    Raises:
        UnknownModel: With the nearest names.
        WeightsUnavailable: It could not be downloaded, or is not what the manifest says.
        UnusableModel: Random weights were asked for, and there are none to replace.
    """
    name, seed = str(job.params["name"]), job.params["seed"]
    target, light = job.out / "model.onnx", light_models()
    known = {key.lower(): key for key in light}
    if name.lower() in known:
        path = light[known[name.lower()]]
        if seed is None:
            shutil.copyfile(path, target)
            return {"path": target.name, "from": "the onnx package"}
        job.step("seed")
        model, count = seeded(files.load(path), int(seed))
        (feed,) = generate(inspect(path).inputs, seed=int(seed), batches=(_INPUTS,))[:1]
        files.write(calibrated(model, feed), target)
        return {"path": target.name, "from": f"the onnx package, {count} constants seeded with {seed}"}
    entry = _entry(name, _manifest(name))
    if seed is not None:
        raise UnusableModel(
            f"onnx-zoo:{name} has weights of its own, and a file says nothing of how they were drawn",
            hint=f"leave @seeded out, or take one of {', '.join(light)}",
        )
    job.step("download")
    _download(str(entry["model_path"]), target, str(entry["metadata"].get("model_sha", "")), name)
    return {"path": target.name, "from": str(entry["model_path"])}


def _manifest(name: str = "") -> list[Mapping[str, Any]]:
    try:
        with urllib.request.urlopen(MANIFEST, timeout=_SILENCE_S) as answer:
            listed: list[Mapping[str, Any]] = json.load(answer)
    except (OSError, ValueError) as error:
        subject = f"onnx-zoo:{name}" if name else "the ONNX Model Zoo's list"
        hint = f"without a network there are {', '.join(light_models())}"
        raise WeightsUnavailable(f"{subject} could not be had: {_reason(error)}", hint=hint) from error
    return listed


def _row(entry: Mapping[str, Any]) -> dict[str, Any]:
    path = Path(str(entry["model_path"]))
    return {"name": path.stem, "family": str(entry["model"]), "inputs": [], "note": f"opset {entry['opset_version']}"}


def _entry(name: str, listed: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The entry of that name, or of that file's stem; of several opsets the newest."""
    wanted = name.lower()
    fitting = [e for e in listed if wanted in (str(e["model"]).lower(), Path(str(e["model_path"])).stem.lower())]
    if fitting:
        return max(fitting, key=lambda e: int(e["opset_version"]))
    names = {str(e["model"]) for e in listed} | set(light_models())
    near = difflib.get_close_matches(name, names, 3, 0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "list them with: onnxeq zoo list onnx-zoo"
    raise UnknownModel(f"the ONNX Model Zoo has no model {name}", hint=hint)


def _download(path: str, target: Path, sha256: str, name: str) -> None:
    digest = hashlib.sha256()
    try:
        with (
            urllib.request.urlopen(MODELS + path, timeout=_SILENCE_S) as answer,  # noqa: S310 - https, our own
            target.open("wb") as file,
        ):
            while chunk := answer.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise WeightsUnavailable(f"onnx-zoo:{name} could not be downloaded: {_reason(error)}") from error
    if sha256 and digest.hexdigest() != sha256:
        target.unlink()
        raise WeightsUnavailable(
            f"onnx-zoo:{name}: what came has the SHA-256 {digest.hexdigest()[:12]}..., the manifest says"
            f" {sha256[:12]}...",
            hint="try again later, or download it by hand and name the file",
        )


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(cause).split()) or type(error).__name__
