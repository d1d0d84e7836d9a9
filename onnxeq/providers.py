"""Which execution providers a check uses on this machine."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from onnxeq.errors import UsageError

if TYPE_CHECKING:
    from onnxeq.envs.environment import Environment

__all__ = ["Provider", "choose_providers", "restricted"]


@dataclass(frozen=True)
class Provider:
    """A provider of the ladder.

    Attributes:
        name: ``cpu`` or ``cuda``.
        asked: Whether the verdict depends on it.
        why_not: Why it cannot run here; empty when it can be tried.
        device: Its name and driver, as the driver says them.
    """

    name: str
    asked: bool
    why_not: str = ""
    device: str = ""


def choose_providers(given: Sequence[str] | None) -> tuple[Provider, ...]:
    """The providers asked for; by default the CPU, and CUDA where this machine has a device.

    Raises:
        UsageError: A provider that is not known.
    """
    for name in given or ():
        if name not in ("cpu", "cuda"):
            raise UsageError(f"'{name}' is no provider", hint="--providers takes cpu, cuda")
    device = _device()
    why_not = "" if device else "no CUDA device on this machine"
    if given is None:
        return (Provider("cpu", True), Provider("cuda", bool(device), why_not, device))
    cuda = Provider("cuda", "cuda" in given, why_not if "cuda" in given else "not asked for (--providers)", device)
    return (Provider("cpu", True), cuda)


def restricted(
    providers: Sequence[Provider], environment: Environment | None, given: Sequence[str] | None
) -> tuple[Provider, ...]:
    """The same, without CUDA where the onnxruntime of an environment has none; what was ``given`` stays asked for."""
    if environment is None or not environment.has("onnxruntime") or "onnxruntime-gpu" in environment.installed():
        return tuple(providers)
    why_not = f"the onnxruntime of '{environment.name}' is built without CUDA"
    without = (
        replace(p, asked="cuda" in (given or ()), why_not=p.why_not or why_not) if p.name == "cuda" else p
        for p in providers
    )
    return tuple(without)


@functools.cache
def _device() -> str:
    from onnxeq.runners.ort import cuda_device

    return cuda_device()
