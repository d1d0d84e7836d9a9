"""An environment: a folder with a Python of its own and pinned packages, and what is known of it.

``ROOT/NAME/`` is the virtual environment and ``ROOT/NAME/onnxeq.json`` what it is; that file is written last, so that
a folder without one is half built. ``ROOT/.locks/NAME`` is locked by whoever builds, removes or uses it, and
``ROOT/.logs/NAME.txt`` holds what pip said.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import machinery, metadata
from pathlib import Path

from onnxeq import fingerprint
from onnxeq.envs import locks
from onnxeq.envs.presets import normalized, package_of, requirements_of
from onnxeq.errors import CannotRun, UsageError

__all__ = [
    "Environment",
    "broken",
    "check_name",
    "envs_root",
    "find",
    "for_report",
    "frameworks_in",
    "in_words",
    "listed",
    "own_places",
    "read",
    "remove",
    "told",
]

_SCHEMA = "onnxeq.env/1"
_STATE = "onnxeq.json"


def envs_root() -> Path:
    """Where environments are kept: ``$ONNXEQ_ENVS``, else the user's data folder. No pruning reaches them there."""
    given = os.environ.get("ONNXEQ_ENVS")
    if given:
        return Path(given).absolute()
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "onnxeq" / "envs"


@dataclass(frozen=True)
class Environment:
    """A finished environment.

    Attributes:
        name: What the user calls it.
        folder: The virtual environment.
        requirements: What was asked for besides the base.
        key: Changes with everything that it was built from.
        created: When, in UTC (ISO 8601).
        base: The interpreter that it was made with.
        python_version: Of that interpreter.
        packages: The folders of its packages, relative to ``folder``.
    """

    name: str
    folder: Path
    requirements: tuple[str, ...]
    key: str
    created: str
    base: str
    python_version: str
    packages: tuple[str, ...]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return python_in(self.folder)

    @property
    def lock(self) -> Path:
        """What a process holds that runs in it."""
        return lock_of(self.name)

    def installed(self) -> Mapping[str, str]:
        """Normalised name -> version of everything that lies in it now, read without running it."""
        return _installed(self.folder, self.packages, _stamps(self.folder, self.packages))

    def versions(self) -> dict[str, str]:
        """The versions that can change a number: Python's, the known packages', and those asked for."""
        there = self.installed()
        named = {normalized(n) for n in fingerprint.PACKAGES} | {package_of(r) for r in self.requirements}
        return {"python": self.python_version, **{n: there[n] for n in sorted(named) if n in there}}

    def has(self, module: str) -> bool:
        """Whether a top-level module can be found in it, without importing anything."""
        return machinery.PathFinder.find_spec(module, [str(self.folder / p) for p in self.packages]) is not None

    @property
    def runs_frameworks(self) -> bool:
        """Whether a framework is in it, or a converter for one."""
        return any(map(self.has, _FRAMEWORKS)) or any(_offers_converter(self.folder / p) for p in self.packages)

    @property
    def runs_onnxruntime(self) -> bool:
        """Whether onnxruntime is in it."""
        return self.has("onnxruntime")

    def described(self) -> dict[str, object]:
        """What a report says of it."""
        return {"name": self.name, "requirements": list(self.requirements), "versions": self.versions()}


_FRAMEWORKS = ("torch", "tensorflow", "keras")


def _offers_converter(packages: Path) -> bool:
    found = metadata.distributions(path=[str(packages)])
    return any(e.group == "onnxeq.converters" for d in found for e in d.entry_points)


def for_report(environments: Sequence[Environment]) -> dict[str, object]:
    """What a report's ``environment`` gains when something ran in one: ``env``, and ``envs`` if there are several."""
    described = [each.described() for each in environments]
    if len(described) > 1:
        return {"env": described[0], "envs": described}
    return {"env": described[0]} if described else {}


def told(environment: Environment) -> dict[str, str]:
    """The versions in it that a reader wants to know."""
    versions = environment.versions()
    return {name: versions[name] for name in _TOLD if name in versions}


_TOLD = ("torch", "tensorflow", "keras", "tf-keras", "tf-models-official", "onnxruntime", "onnxruntime-gpu")


def in_words(environment: Environment, why: str = "") -> str:
    """Where something ran: the environment with the versions that a reader wants to know."""
    held = ", ".join(f"{name} {version}" for name, version in told(environment).items())
    return f"in the environment '{environment.name}'{why}: {held}"


def own_places(environments: Sequence[Environment], asked: Environment | None) -> tuple[str, ...]:
    """What ran in environments that nobody asked for, because the zoo of a model needs them, in words."""
    why = ", which holds what models of this zoo need"
    return tuple(in_words(each, why) for each in environments if each != asked)


def frameworks_in(name: str) -> Environment | None:
    """Where frameworks run with ``--env NAME``: there, unless it holds none.

    Raises:
        UsageError: There is no such environment, or it cannot be used.
    """
    found = find(name) if name else None
    return found if found is not None and found.runs_frameworks else None


def python_in(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def lock_of(name: str) -> Path:
    """The lock of an environment, which is there before the environment and after it."""
    return envs_root() / ".locks" / name


def log_of(name: str) -> Path:
    """What pip said when it was built last."""
    return envs_root() / ".logs" / f"{name}.txt"


def _stamps(folder: Path, packages: tuple[str, ...]) -> tuple[int, ...]:
    """What changes when a package comes or goes."""
    paths = [folder / each for each in packages]
    return tuple(path.stat().st_mtime_ns for path in paths if path.is_dir())


@functools.lru_cache(maxsize=32)
def _installed(folder: Path, packages: tuple[str, ...], _when: tuple[int, ...]) -> Mapping[str, str]:
    there = metadata.distributions(path=[str(folder / each) for each in packages])
    return dict(sorted((normalized(d.name), d.version) for d in there if d.name))


def check_name(name: str) -> None:
    """Refuses what can be no folder's name.

    Raises:
        UsageError: It cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", name):
        hint = "letters, digits, '.', '_', '+' and '-', a letter or digit first"
        raise UsageError(f"'{name}' is no name for an environment", hint=hint)


def write(environment: Environment) -> None:
    """Makes a built environment a finished one."""
    record = {k: v for k, v in asdict(environment).items() if k not in ("name", "folder")}
    record |= {"schema": _SCHEMA, "installed": dict(environment.installed())}
    path = environment.folder / _STATE
    part = path.with_suffix(".part")
    with part.open("w") as file:
        file.write(json.dumps(record, indent=1, sort_keys=True))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read(name: str) -> Environment | None:
    """The environment of that name; ``None`` when there is none, or a half-built one."""
    folder = envs_root() / name
    try:
        record = json.loads((folder / _STATE).read_text())
        if record["schema"] != _SCHEMA:
            return None
        return Environment(
            name, folder, tuple(record["requirements"]), record["key"], record["created"], record["base"],
            record["python_version"], tuple(record["packages"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def broken(environment: Environment) -> str:
    """Why it cannot be used, as far as that shows without running it; empty when it can."""
    if not environment.python.exists():
        gone = environment.python.is_symlink()
        return f"the Python that it was made with, {environment.base}, is gone" if gone else "its Python is gone"
    there = environment.installed()
    lost = [r for r in environment.requirements if package_of(r) not in there]
    return f"it no longer holds {', '.join(lost)}" if lost else ""


def find(name: str) -> Environment:
    """The finished environment of that name.

    Raises:
        UsageError: There is none, or it cannot be used.
    """
    check_name(name)
    found = read(name)
    if found is None:
        state = "is half built" if (envs_root() / name).is_dir() else "does not exist"
        raise UsageError(f"the environment '{name}' {state}", hint=_hint(name))
    if why := broken(found):
        raise UsageError(f"the environment '{name}' cannot be used: {why}", hint=f"build it again: {made_by(found)}")
    return found


def made_by(environment: Environment) -> str:
    """The command that builds it."""
    try:
        known = requirements_of(environment.name)
    except UsageError:
        known = ()
    more = [r for r in environment.requirements if r not in known]
    return " ".join(["onnxeq env create", environment.name, *(f"--with {shlex.quote(r)}" for r in more)])


def _hint(name: str) -> str:
    from onnxeq.zoo import nearest

    try:
        requirements_of(name)
        make = f"make it: onnxeq env create {name}"
    except UsageError:
        make = f"make it: onnxeq env create {name} --with PACKAGE==VERSION"
    near = nearest(name, [e.name for e in listed()])
    return f"did you mean {near}? Or {make}" if near else make


def listed() -> tuple[Environment, ...]:
    """Every finished environment, by name."""
    return tuple(found for name in _folders() if (found := read(name)) is not None)


def half_built() -> tuple[str, ...]:
    """Names of folders that are being built, or were left by a build that was killed."""
    return tuple(name for name in _folders() if read(name) is None)


def _folders() -> list[str]:
    root = envs_root()
    if not root.is_dir():
        return []
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def remove(name: str) -> None:
    """Removes an environment, or what a killed build left of one.

    Raises:
        UsageError: There is none, or somebody uses or builds it.
        CannotRun: It could not be removed.
    """
    check_name(name)
    if not (envs_root() / name).is_dir():
        have = ", ".join(_folders())
        hint = f"there are: {have}" if have else "there are none"
        raise UsageError(f"the environment '{name}' does not exist", hint=hint)
    try:
        with locks.exclusive(lock_of(name)):
            discard(name)
    except locks.Busy:
        hint = "try again when it is done"
        raise UsageError(f"the environment '{name}' is in use by a running job or a build", hint=hint) from None
    log_of(name).unlink(missing_ok=True)


def discard(name: str) -> None:
    """Takes the folder away, the state first, so that nobody takes a half-removed one for finished.

    Raises:
        CannotRun: Something of it cannot be removed.
    """
    folder = envs_root() / name
    if not folder.exists():
        return
    try:
        (folder / _STATE).unlink(missing_ok=True)
        shutil.rmtree(folder)
    except OSError as error:
        raise CannotRun(f"{folder} cannot be removed: {error.strerror}", hint="remove that folder by hand") from error
