"""Hundreds of exports in one process: what the dynamo exporter builds anew for each of them is built once.

Its table of translations and its table of decompositions do not depend on the model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

__all__ = ["shared_tables"]


@contextmanager
def shared_tables() -> Iterator[None]:
    """While active, the tables are kept; without effect where torch is built otherwise."""
    try:
        from torch.export import decomp_utils, exported_program
        from torch.onnx._internal.exporter import _decomp, _registration
    except ImportError:
        yield
        return
    registry = _registration.ONNXRegistry
    with ExitStack() as stack:
        made = functools.cache(registry.from_torchlib)
        stack.enter_context(mock.patch.object(registry, "from_torchlib", staticmethod(made)))
        table = _once(_decomp.create_onnx_friendly_decomposition_table)
        stack.enter_context(mock.patch.object(_decomp, "create_onnx_friendly_decomposition_table", table))
        for module in (decomp_utils, exported_program):
            if hasattr(module, "_collect_all_valid_cia_ops"):
                ops = functools.cache(module._collect_all_valid_cia_ops)
                stack.enter_context(mock.patch.object(module, "_collect_all_valid_cia_ops", ops))
        yield


def _once(make: Callable[[Any], dict[Any, Any]]) -> Callable[[Any], dict[Any, Any]]:
    kept: dict[Any, Any] = {}

    def table(registered: Any) -> dict[Any, Any]:
        if not kept:
            kept.update(make(registered))
        return dict(kept)

    return table
