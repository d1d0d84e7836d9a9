"""Which execution providers a check uses on this machine."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from onnxeq.errors import UsageError

__all__ = ["Provider", "choose_providers"]


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


@functools.cache
def _device() -> str:
    from onnxeq.runners.ort import cuda_device

    return cuda_device()
