"""Run inside of an environment: what Python it is, where its packages lie, and what of them can be imported.

``MODULE...`` on the command line is imported one by one; one JSON object on the last line of standard output.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
import sysconfig

__all__ = ["main"]


def main(modules: list[str]) -> None:
    """Imports the modules and prints what came of it."""
    failed = {}
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException as error:  # whatever it is, the module cannot be used
            failed[name] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    found = {
        "python": platform.python_version(),
        "prefix": sys.prefix,
        "packages": sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}),
        "failed": failed,
    }
    print(json.dumps(found), flush=True)  # noqa: T201 - this is its answer


if __name__ == "__main__":
    main(sys.argv[1:])
