"""``onnxeq doctor``: what is installed here, what runs, and how to mend what does not."""

from __future__ import annotations

import typer

from onnxeq import errors
from onnxeq.cli import options as o

__all__ = ["doctor"]


def doctor(json: o.Json = False) -> None:
    """Say what is installed, which providers run, and what to type to mend the rest. Exit 3 if something is broken."""
    from onnxeq.doctor import examine

    findings = examine()
    if json:
        import dataclasses
        import json as json_

        document = {"schema": "onnxeq.doctor/1", "findings": [dataclasses.asdict(f) for f in findings]}
        typer.echo(json_.dumps(document, indent=1))
    else:
        for finding in findings:
            typer.echo(f"{finding.state.value:<8} {finding.name:<18} {finding.text}")
    if any(f.state.value == "broken" for f in findings):
        raise typer.Exit(errors.EXIT_UNDECIDED)
