"""Starts this package's code in another Python, one that has neither the package nor its metadata.

    PYTHON -I onnxeq/launch.py CONVERTERS MODULE [ARGUMENT...]

runs ``python -m MODULE ARGUMENT...`` there. The packages ``onnxeq`` and ``onnxeq_converters`` (the folder
``CONVERTERS``) are the host's own, whatever the other Python may have under these names, and nothing else of the
host's comes along: neither its other packages nor its ``PYTHONPATH`` (``-I``). So an environment is never older than
the host that uses it.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

__all__ = ["command", "main"]


class _Finder:
    """Finds the top-level packages that it is told of, before anything that is installed."""

    def __init__(self, places: dict[str, Path]) -> None:
        self._places = places

    def find_spec(self, name: str, *_where: object) -> ModuleSpec | None:
        """Python's protocol of a finder."""
        folder = self._places.get(name)
        if folder is None:
            return None
        start = folder / "__init__.py"
        return importlib.util.spec_from_file_location(name, start, submodule_search_locations=[str(folder)])


def command(python: Path, module: str, *arguments: str) -> list[str]:
    """What to type to run ``module`` of this package in another Python."""
    found = importlib.util.find_spec("onnxeq_converters")
    converters = next(iter((found.submodule_search_locations if found else None) or ()), "")
    return [str(python), "-I", str(Path(__file__).resolve()), converters, module, *arguments]


def main(arguments: Sequence[str]) -> None:
    """Runs a module of this package as ``__main__``; see the command line above."""
    converters, module, *rest = arguments
    places = {"onnxeq": Path(__file__).resolve().parent}
    if converters:
        places["onnxeq_converters"] = Path(converters)
    sys.meta_path.insert(0, _Finder(places))
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
