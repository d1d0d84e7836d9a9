"""``onnxeq env create``, ``list`` and ``remove``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from onnxeq.cli import options as o

__all__ = ["app"]

app = typer.Typer(
    help="Environments: a framework or a runtime in another version, for --env.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What to call it; torch-2.9, tfmg and others say what they hold.")],
    with_: Annotated[
        list[str], typer.Option("--with", help="PACKAGE==VERSION to put in (repeatable), as pip takes it.")
    ] = [],  # noqa: B006 - typer copies defaults
    python: Annotated[str, typer.Option(help="The Python to make it with; by default this one.")] = "",
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Make a virtual environment with pinned packages, and try it out."""
    import functools
    import signal

    from rich.console import Console

    from onnxeq.envs import create as build
    from onnxeq.report.progress import JobProgress

    # A build that is ended by its supervisor tidies up as one that is interrupted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with JobProgress(Console(stderr=True), quiet=quiet) as progress:
        made = build(name, with_, python=python, tell=functools.partial(progress, f"env {name}"))
        progress(f"env {name}", "done")
    if json:
        _print_json({"schema": "onnxeq.env/1", "environment": _row(made, "")})
        return
    held = ", ".join(f"{n} {v}" for n, v in made.versions().items())
    typer.echo(f"{name}: {held}")
    typer.echo(f"use it: onnxeq check SOURCE --env {name}")


@app.command("list")
def list_(json: o.Json = False) -> None:
    """List the environments, what they hold and whether they can be used."""
    from onnxeq.envs import broken, envs_root, half_built, listed

    rows = [_row(found, broken(found)) for found in listed()]
    rows += [{"name": name, "state": "half built"} for name in half_built()]
    if json:
        _print_json({"schema": "onnxeq.env/1", "root": str(envs_root()), "environments": rows})
        return
    for row in rows:
        held = ", ".join(f"{n} {v}" for n, v in row.get("versions", {}).items())
        typer.echo(f"{row['name']:<16} " + (held if row["state"] == "ok" else f"{row['state']}: {_mend(row)}"))
    if not rows:
        typer.echo(f"no environments in {envs_root()}; make one: onnxeq env create torch-2.9", err=True)


@app.command("remove")
def remove(name: Annotated[str, typer.Argument(help="The environment.")]) -> None:
    """Remove an environment that no job is using."""
    from onnxeq.envs import remove as take_away

    take_away(name)
    typer.echo(f"{name}: removed", err=True)


def _row(found: Any, why_not: str) -> dict[str, Any]:
    from onnxeq.envs import made_by

    return {
        "name": found.name,
        "state": why_not or "ok",
        "requirements": list(found.requirements),
        "python": str(found.python),
        "versions": found.versions(),
        "created": found.created,
        "key": found.key,
        "made_by": made_by(found),
    }


def _mend(row: dict[str, Any]) -> str:
    if row["state"] == "half built":
        return f"being built, or left by a build that was killed; onnxeq env remove {row['name']}"
    return f"build it again: {row['made_by']}"


def _print_json(document: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, indent=1))
