"""``onnxeq zoo list`` and ``onnxeq zoo show``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from onnxeq import errors
from onnxeq.cli import options as o

__all__ = ["app"]

app = typer.Typer(help="What can be named in a model reference.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(
    name: Annotated[str, typer.Argument(help="A zoo; without one the zoos are listed.")] = "",
    env: o.Env = "",
    json: o.Json = False,
) -> None:
    """List the zoos, or the models of one zoo."""
    rows = _entries(name, env) if name else _zoos(env)
    if json:
        _print_json({"schema": "onnxeq.zoo/1", "zoo": name or None, "entries": rows})
        return
    for row in rows:
        typer.echo(f"{name}:{row['name']}  {row['family']}" if name else f"{row['name']:<14}{row['state']}")


@app.command("show")
def show(
    reference: Annotated[str, typer.Argument(help="A model, zoo:name.")],
    env: o.Env = "",
    json: o.Json = False,
) -> None:
    """Show one model: its family, its inputs and what it needs."""
    from onnxeq import zoo
    from onnxeq.records import spec_from_record

    ref = zoo.parse(reference)
    if ref.zoo in ("file", "factory"):
        raise errors.UsageError(
            f"{reference} is no model of a zoo", hint="write zoo:name; onnxeq zoo list names the zoos"
        )
    rows = _entries(ref.zoo, env)
    row = next((r for r in rows if r["name"] == ref.name), None)
    if row is None:
        near = zoo.nearest(ref.name, [r["name"] for r in rows])
        hint = f"did you mean {near}?" if near else f"list them with: onnxeq zoo list {ref.zoo}"
        raise errors.UnknownModel(f"{ref.zoo} has no model '{ref.name}'", hint=hint)
    if json:
        _print_json({"schema": "onnxeq.zoo/1", "zoo": ref.zoo, "entry": row})
        return
    typer.echo(f"{ref.zoo}:{row['name']}")
    for key in ("family", "note"):
        if row[key]:
            typer.echo(f"  {key}: {row[key]}")
    for record in row["inputs"]:
        spec = spec_from_record(record)
        span = f", values {spec.range.low:g} to {spec.range.high:g}" if spec.range else ""
        typer.echo(f"  input {spec.name}: {spec.text()}{span}")
    weights = "" if ref.zoo in zoo.BROUGHT_ALONG else "@seeded"
    typer.echo(f"  without a network: onnxeq check {ref.zoo}:{row['name']}{weights}")


def _zoos(env: str) -> list[dict[str, str]]:
    from onnxeq import zoo
    from onnxeq.envs.environment import frameworks_in

    rows = []
    where, there = frameworks_in(env), f" --env {env}" if env else ""
    for name in zoo.installed_zoos():
        try:
            zoo.require_framework(zoo.listing(name, where), name, where)
            state = f"installed; list with: onnxeq zoo list {name}{there}"
        except errors.FrameworkMissing as missing:
            state = missing.line()
        rows.append({"name": name, "state": state})
    return rows


def _entries(name: str, env: str) -> list[dict[str, Any]]:
    from onnxeq import zoo
    from onnxeq.envs.environment import frameworks_in
    from onnxeq.jobs import Jobs, JobSpec

    ref = zoo.parse(f"{name}:x")
    if ref.zoo != name:
        raise errors.UnknownZoo(f"'{name}' is no zoo", hint="onnxeq zoo list names them")
    where = frameworks_in(env)
    ref = zoo.listing(name, where)
    zoo.require_framework(ref, environment=where)
    with Jobs(environment=where) as jobs:
        converter = zoo.converter_for(ref)
        params = {"converter": converter, "zoo": name}
        kind, fresh = ("onnx-zoo-catalogue", False) if converter == "onnx" else ("catalogue", True)
        listed = jobs.start(JobSpec(kind, f"zoo {name}", params, cache=fresh)).result().data
    if missing := listed.get("missing"):
        typer.echo(f"onnxeq: {missing}; only what is installed is listed", err=True)
    return list(listed["entries"])


def _print_json(document: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, indent=1))
