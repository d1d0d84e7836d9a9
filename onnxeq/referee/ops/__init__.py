"""The operator implementations; importing this package registers all of them.

Every module of this folder is imported: a new file needs no entry anywhere.
"""

from __future__ import annotations

import importlib
import pkgutil

__all__: list[str] = []

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
