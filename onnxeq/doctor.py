"""What ``onnxeq doctor`` examines: packages, converters, providers, the cache. Each by really trying it."""

from __future__ import annotations

import enum
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

from onnxeq import envs, fingerprint, zoo
from onnxeq.cache import cache_root
from onnxeq.errors import FrameworkMissing, UsageError
from onnxeq.providers import choose_providers
from onnxeq.runtimes import BUILT_IN, installed_runners
from onnxeq.types import ModelRef

__all__ = ["Finding", "State", "examine"]


class State(enum.StrEnum):
    """How one thing stands."""

    OK = "ok"
    ABSENT = "absent"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One examined thing and, where it is not well, what to type."""

    name: str
    state: State
    text: str


_IMPORTS = {
    "onnxruntime": "import onnxruntime as m; print(m.__version__, *m.get_available_providers())",
    "onnx": "import onnx as m; print(m.__version__)",
    "onnxsim": "import onnxsim as m; print(getattr(m, '__version__', ''))",
    "torch": "import torch as m; print(m.__version__)",
    "torchvision": "import torchvision as m; print(m.__version__)",
    "timm": "import timm as m; print(m.__version__)",
    "transformers": "import transformers as m; print(m.__version__)",
    "tensorflow": "import tensorflow as m; print(m.__version__)",
    "keras": "import keras as m; print(m.__version__)",
    "tf2onnx": "import tf2onnx as m; print(m.__version__)",
    "openvino": "import openvino as m; print(m.__version__)",
}


_EXTRAS = {"torch": "torch", "torchvision": "torch", "timm": "timm", "transformers": "hf", "openvino": "openvino"}


def examine() -> tuple[Finding, ...]:
    """Imports each package in a process of its own, asks for devices, and tries the cache folder."""
    versions = fingerprint.versions()
    found = [Finding("python", State.OK, f"{versions['python']} at {sys.executable}")]
    found += [_package(name, code, versions) for name, code in _IMPORTS.items()]
    found += [_converter(f"zoo {name}", name) for name in zoo.installed_zoos()]
    found += [_converter(f"converter {name}", name) for name in zoo.BUILT_IN if name not in zoo.ZOOS.values()]
    found += [_runner(name, target, versions) for name, target in installed_runners().items()]
    cuda = next(p for p in choose_providers(None) if p.name == "cuda")
    found.append(Finding("cuda", State.ABSENT if cuda.why_not else State.OK, cuda.why_not or "a CUDA device answers"))
    found.append(_cache())
    found += [_environment(each) for each in envs.listed()]
    found += [Finding(f"env {name}", State.BROKEN, _HALF_BUILT.format(name=name)) for name in envs.half_built()]
    return tuple(found)


_HALF_BUILT = "being built, or left by a build that was killed; onnxeq env remove {name}"


def _environment(there: envs.Environment) -> Finding:
    label = f"env {there.name}"
    if why := envs.why_not(there):
        return Finding(label, State.BROKEN, f"{why}; build it again: {envs.made_by(there)}")
    return Finding(label, State.OK, ", ".join(f"{n} {v}" for n, v in there.versions().items()))


def _package(name: str, code: str, versions: dict[str, str]) -> Finding:
    if name not in versions and f"{name}-gpu" not in versions:
        if name in ("onnx", "onnxruntime", "onnxsim"):
            return Finding(name, State.BROKEN, "not installed, and needed; pip install onnxeq")
        extra = _EXTRAS.get(name, "keras")
        return Finding(name, State.ABSENT, f"not installed; pip install 'onnxeq[{extra}]'")
    environment = dict(os.environ, PYTHONSAFEPATH="1", TF_CPP_MIN_LOG_LEVEL="3")
    tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    if tried.returncode:
        last = (tried.stderr.strip().splitlines() or [f"ended with status {tried.returncode}"])[-1]
        return Finding(name, State.BROKEN, f"import fails: {last}; reinstall with the versions in constraints.txt")
    return Finding(name, State.OK, tried.stdout.strip())


def _converter(label: str, name: str) -> Finding:
    """A converter by the name of a zoo, or by its own where it reads files only."""
    target = zoo.installed_converters().get(zoo.ZOOS.get(name, name), "")
    try:
        there = zoo.require_framework(ModelRef(name, name, ""), label)
    except FrameworkMissing as missing:
        return Finding(label, State.ABSENT, missing.line())
    except UsageError as broken:
        return Finding(label, State.BROKEN, broken.line())
    return Finding(label, State.OK, f"converter {target}" + (f" in the environment '{there.name}'" if there else ""))


def _runner(name: str, target: str, versions: dict[str, str]) -> Finding:
    label = f"runner {name}"
    if target == BUILT_IN["openvino"] and "openvino" not in versions:
        return Finding(label, State.ABSENT, "openvino is not installed; pip install 'onnxeq[openvino]'")
    code = f"from onnxeq.runners.runtime import load_runner as m; print(*m('{target}').versions().items())"
    tried = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if tried.returncode:
        last = (tried.stderr.strip().splitlines() or [f"ended with status {tried.returncode}"])[-1]
        return Finding(label, State.BROKEN, f"{target} cannot be loaded: {last}")
    return Finding(label, State.OK, f"{target}; check SOURCE --runner {name}")


def _cache() -> Finding:
    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return Finding(
            "cache",
            State.BROKEN,
            f"{root} is not writable ({error.strerror}); set ONNXEQ_CACHE to a folder that is",
        )
    used = sum(p.stat().st_size for p in root.rglob("*") if p.is_file())
    free = shutil.disk_usage(root).free
    return Finding("cache", State.OK, f"{root}: {used / 2**30:.2f} GiB used, {free / 2**30:.0f} GiB free")
