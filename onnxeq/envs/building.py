"""Building an environment: locked, in place, tried out before it counts, removed when anything goes wrong.

A virtual environment cannot be moved, so it is built where it will lie. What makes it count is the record that is
written when it has been tried out (:func:`onnxeq.envs.environment.write`); until then it is a leftover that the next
build removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from onnxeq import launch
from onnxeq.envs import locks
from onnxeq.envs.environment import (
    Environment,
    broken,
    check_name,
    discard,
    envs_root,
    lock_of,
    log_of,
    python_in,
    read,
    write,
)
from onnxeq.envs.presets import BASE, FLOOR, package_of, requirements_of
from onnxeq.errors import CannotRun, OnnxeqError, UsageError

__all__ = ["create", "why_not"]

Tell = Callable[[str], None]

_MODULES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "tensorflow": "tensorflow",
    "keras": "keras",
    "tf-keras": "tf_keras",
    "tf2onnx": "tf2onnx",
    "onnxruntime": "onnxruntime",
    "onnxruntime-gpu": "onnxruntime",
    "onnxscript": "onnxscript",
    "openvino": "openvino",
    "timm": "timm",
    "transformers": "transformers",
    "tf-models-official": "official",
}
"""Package -> what is imported to see whether it works; other packages are only installed."""

_JOB_CODE = ("numpy", "ml_dtypes", "onnx", "onnxeq.worker", "onnxeq.runners.native", "onnxeq.runners.runtime")

_PROBE_S = 600.0


def create(name: str, given: Sequence[str] = (), *, python: str = "", tell: Tell = lambda _step: None) -> Environment:
    """Builds an environment, or takes the one that is there when it is what is asked for.

    Args:
        name: What to call it; some names say what it holds (:data:`onnxeq.envs.presets.PRESETS`).
        given: Further requirements, as pip takes them.
        python: The interpreter to make it with; by default the one that runs this.
        tell: Told of each step.

    Raises:
        UsageError: A name, a requirement or an interpreter that cannot be, or another environment of that name.
        CannotRun: pip failed, or what it installed does not work; nothing is left of the environment.
    """
    check_name(name)
    requirements = requirements_of(name, given)
    for requirement in requirements:
        package_of(requirement)
    base, version = _interpreter(python)
    key = _key(requirements, version)
    try:
        envs_root().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "set ONNXEQ_ENVS to a folder that can be written"
        raise UsageError(f"{envs_root()} cannot be made: {error.strerror}", hint=hint) from error
    if there := _usable(name, key, tell):
        return there
    with locks.exclusive(lock_of(name), lambda: tell("another process builds or uses it: waiting")) as lock:
        if there := _usable(name, key, tell):  # that process has built it
            return there
        discard(name)
        try:
            built = _build(name, requirements, base, version, key, tell, lock)
            if why := why_not(built, tell):
                raise CannotRun(f"the environment '{name}' was built and does not work: {why}", hint=_log_hint(name))
            write(built)
        except BaseException:
            shutil.rmtree(envs_root() / name, ignore_errors=True)
            raise
        return built


def _usable(name: str, key: str, tell: Tell) -> Environment | None:
    """The environment that is there, when it is what is asked for and works.

    Raises:
        UsageError: It is another one.
    """
    there = read(name)
    if there is None:
        return None
    if there.key != key:
        held = ", ".join(there.requirements)
        said = f"an environment '{name}' is there with {held} on Python {there.python_version}"
        raise UsageError(said, hint=f"remove it first: onnxeq env remove {name}")
    if why := why_not(there, tell):
        tell(f"build it again: {why}")
        return None
    return there


def _key(requirements: Sequence[str], version: str) -> str:
    content = {"requirements": sorted(requirements), "base": BASE, "python": version}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _interpreter(given: str) -> tuple[str, str]:
    """Path and version of the interpreter to build with.

    Raises:
        UsageError: It is none, or too old.
    """
    path = shutil.which(given) if given else sys.executable
    if path is None:
        raise UsageError(f"there is no Python '{given}'", hint="give a path or a command: --python python3.12")
    # A virtual environment is made from the Python that the given one was itself made from.
    asked = _ran([path, "-I", "-c", _WHICH])
    fields = asked.stdout.splitlines()
    if asked.returncode or len(fields) != 4:
        raise UsageError(f"{path} is no Python that runs here", hint="give another one: --python PATH")
    version = fields[2]
    if (int(fields[0]), int(fields[1])) < FLOOR:
        oldest = ".".join(map(str, FLOOR))
        raise UsageError(f"{path} is Python {version}; jobs need {oldest} or newer", hint="give another: --python PATH")
    return fields[3], version


_WHICH = """
import platform, sys
print(*sys.version_info[:2], platform.python_version(), sep="\\n")
print(getattr(sys, "_base_executable", sys.executable))
"""


def _ran(command: Sequence[str], timeout_s: float | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"it took longer than {timeout_s:g} s")


def _build(
    name: str, requirements: tuple[str, ...], base: str, version: str, key: str, tell: Tell, lock: int
) -> Environment:
    folder, log = envs_root() / name, log_of(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    tell("make a virtual environment")
    lines, status = _followed([base, "-I", "-m", "venv", str(folder)], log, lambda _line: None, lock)
    if status:
        hint = f"try it by hand: {base} -m venv SOMEWHERE"
        raise CannotRun(f"no virtual environment can be made with {base}: {_last(lines)}", hint=hint)
    python = python_in(folder)

    def tell_pip(line: str) -> None:
        if line.startswith(("Collecting", "Downloading", "Processing", "Using cached", "Installing", "Building")):
            tell(_short(line))

    # One call, so that pip sees every pin at once.
    pip = [str(python), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    lines, status = _followed([*pip, *requirements, *BASE], log, tell_pip, lock)
    if status:
        raise _pip_error(name, lines)
    probed = _probed(python, ())
    if "packages" not in probed:
        raise CannotRun(f"the environment '{name}' has no working Python: {probed['error']}", hint=_log_hint(name))
    inside = tuple(os.path.relpath(p, probed["prefix"]) for p in probed["packages"])
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: UP017 - runs on Python 3.10
    return Environment(name, folder, requirements, key, now, base, version, inside)


def why_not(environment: Environment, tell: Tell = lambda _step: None) -> str:
    """Why jobs cannot run in it, found out by running its Python and importing what it is for; empty when they can."""
    if why := broken(environment):
        return why
    tell("try it out")
    there = environment.installed()
    asked = [package_of(r) for r in environment.requirements]
    modules = dict.fromkeys((*_JOB_CODE, *(_MODULES[p] for p in asked if p in _MODULES and p in there)))
    probed = _probed(environment.python, tuple(modules))
    if "packages" not in probed:
        return f"its Python does not run: {probed['error']}"
    if probed["python"] != environment.python_version:
        return f"it was made for Python {environment.python_version} and its Python is now {probed['python']}"
    failed = probed["failed"]
    return "; ".join(f"importing {module} raises {said}" for module, said in failed.items())


def _probed(python: Path, modules: tuple[str, ...]) -> dict[str, Any]:
    """What :mod:`onnxeq.envs.probe` answers in that Python, or ``error``."""
    done = _ran(launch.command(python, "onnxeq.envs.probe", *modules), _PROBE_S)
    for line in reversed(done.stdout.splitlines()):  # a framework may print, and may crash when it ends
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and "packages" in found:
                return found
    return {"error": _last(done.stderr.splitlines()) or f"it ended with status {done.returncode}"}


def _followed(command: Sequence[str], log: Path, tell: Tell, lock: int) -> tuple[list[str], int]:
    """Runs a command to its end, its output in the log and told line by line; a Ctrl-C stops it and its children."""
    posix = sys.platform != "win32"
    lines = []
    with log.open("a", buffering=1) as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", start_new_session=posix, pass_fds=(lock,) if posix else (),
        )  # fmt: skip
        assert process.stdout is not None  # noqa: S101 - for the type checker
        try:
            for line in process.stdout:
                file.write(line)
                lines.append(line.rstrip())
                if line.strip():
                    tell(line.strip())
            return lines, process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL) if posix else process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()


def _short(line: str) -> str:
    """A line of pip's as a step: what it fetches or installs, without where from."""
    line = re.sub(r"\s*\(from .*\)$", "", line)
    found = re.match(r"(Downloading|Processing|Using cached|Obtaining)\s+(\S+)", line)
    if found:
        return f"{found[1].lower()} {found[2].rpartition('/')[2]}"
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."


_WIDTH = 72


def _last(lines: Sequence[str]) -> str:
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def _log_hint(name: str) -> str:
    return f"all that pip said: {log_of(name)}"


_UNREACHED = ("Retrying (", "NewConnectionError", "Temporary failure in name resolution", "Network is unreachable")


def _pip_error(name: str, lines: Sequence[str]) -> OnnxeqError:
    """The installer's own reason in one line: which requirement, and what there is in its place."""
    hint = _log_hint(name)
    told = [line.removeprefix("ERROR: ").strip() for line in lines if line.startswith("ERROR: ")]
    text = " ".join(lines)
    absent = next((t for t in told if t.startswith("No matching distribution found")), "")
    if absent:
        if any(sign in text for sign in _UNREACHED):
            return CannotRun(f"the package index cannot be reached: {absent}", hint=hint)
        wanted = absent.removeprefix("No matching distribution found for ")
        there = re.search(r"\(from versions: ([^)]*)\)", text)
        newest = there[1].split(", ")[-3:] if there and there[1] not in ("", "none") else []
        has = f"the newest for this Python are {', '.join(newest)}" if newest else "the index has none for this Python"
        return UsageError(f"there is no {wanted}: {has}", hint=hint)
    if any("conflicting dependencies" in t for t in told):
        return UsageError(next(t for t in told if "conflicting dependencies" in t)[:400], hint=hint)
    if any("Invalid requirement" in t for t in told):
        return UsageError(
            next(t for t in told if "Invalid requirement" in t)[:300], hint="write --with PACKAGE==VERSION"
        )
    return CannotRun(f"pip failed: {(told or [_last(lines)])[0][:300]}", hint=hint)
