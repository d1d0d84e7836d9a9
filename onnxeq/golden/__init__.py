"""Golden outputs: recorded from executions that agree, checked within a measured error bar, changed only by decision.

====================  ==================================================================
:mod:`.values`        what a golden and a finding are
:mod:`.record_file`   the record as text; :mod:`.arrays_file` the numbers beside it
:mod:`.store`         the folder: locks, and writes that a kill cannot leave half done
:mod:`.recording`     a new golden; :mod:`.importing` one from arrays that somebody has
:mod:`.checking`      the verdict; :mod:`.causes` what made it; :mod:`.known` what is expected
:mod:`.deciding`      accept, reject, prune
====================  ==================================================================

The functions are imported when first used, so that ``import onnxeq.golden`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxeq.golden.checking import check
    from onnxeq.golden.deciding import accept, listed, pending, prune, reject
    from onnxeq.golden.importing import import_golden
    from onnxeq.golden.recording import record

__all__ = ["accept", "check", "import_golden", "listed", "pending", "prune", "record", "reject"]

_HOMES = {
    "accept": "deciding",
    "check": "checking",
    "import_golden": "importing",
    "listed": "deciding",
    "pending": "deciding",
    "prune": "deciding",
    "record": "recording",
    "reject": "deciding",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'onnxeq.golden' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"onnxeq.golden.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
