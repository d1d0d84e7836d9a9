"""Environments: a framework or a runtime in a version of its own, beside the one that ``onnxeq`` runs in.

:mod:`.environment` says what one is, :mod:`.presets` what is in one of a known name, :mod:`.building` makes it,
:mod:`.locks` keeps builders, removers and users apart.
"""

from __future__ import annotations

from onnxeq.envs.building import create, why_not
from onnxeq.envs.environment import Environment, broken, envs_root, find, half_built, listed, made_by, remove
from onnxeq.envs.presets import FLOOR, PRESETS, Preset, requirements_of

__all__ = [
    "FLOOR",
    "PRESETS",
    "Environment",
    "Preset",
    "broken",
    "create",
    "envs_root",
    "find",
    "half_built",
    "listed",
    "made_by",
    "remove",
    "requirements_of",
    "why_not",
]
