"""onnxeq: is a model the same after its conversion to ONNX, and if not, why?

The functions here are those of the command line; they take a model reference, a path or a live model and
return the frozen values of :mod:`onnxeq.types`. They are imported when first used, so that
``import onnxeq`` stays light.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxeq.check import check
    from onnxeq.compare.comparing import compare
    from onnxeq.convert import convert, normalize
    from onnxeq.ledger import ledger

__all__ = ["check", "compare", "convert", "ledger", "normalize"]

_HOMES = {
    "check": "onnxeq.check",
    "compare": "onnxeq.compare.comparing",
    "convert": "onnxeq.convert",
    "diff": "onnxeq.diff",
    "ledger": "onnxeq.ledger",
    "normalize": "onnxeq.convert",
}


class _Package(ModuleType):
    """This package, with one difference: ``onnxeq.check`` is the function, not the module that holds it.

    Python binds a sub-module's name in its package when the sub-module is first imported, which would
    otherwise replace the function by a module of the same name.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'onnxeq' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
