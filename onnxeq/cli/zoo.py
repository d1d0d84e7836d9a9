"""``onnxeq zoo list`` and ``onnxeq zoo show``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from onnxeq.cli import options as o

__all__ = ["app"]

app = typer.Typer(help="What can be named in a model reference.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(
    name: Annotated[str, typer.Argument(help="A zoo; without one the zoos are listed.")] = "",
    env: o.Env = "",
    json: o.Json = False,
) -> None:
    """List the zoos (what is installed, what needs which environment or a network), or the models of one zoo."""
    from onnxeq import zoo_cards
    from onnxeq.envs.environment import frameworks_in

    where = frameworks_in(env)
    rows, missing = zoo_cards.models(name, where) if name else (zoo_cards.zoos(where), "")
    if missing:
        typer.echo(f"onnxeq: {missing}; only what is installed is listed", err=True)
    if json:
        _print_json({"schema": zoo_cards.SCHEMA, "zoo": name or None, "entries": rows})
        return
    for row in rows:
        if name:
            typer.echo(f"{name}:{row['name']}  {row['family']}")
            continue
        held = ", ".join(f"{package} {version}" for package, version in row["packages"].items())
        typer.echo(f"{row['name']:<14}{row['state']}")
        for said in (held, f"network: {row['network']}"):
            typer.echo(f"{'':<14}{said}" if said else "", nl=bool(said))


@app.command("show")
def show(
    reference: Annotated[str, typer.Argument(help="A model, zoo:name.")],
    env: o.Env = "",
    json: o.Json = False,
) -> None:
    """Show one model: inputs, preprocessing recipe, published accuracy with its source, licence."""
    from onnxeq import zoo_cards
    from onnxeq.envs.environment import frameworks_in

    told = zoo_cards.card(reference, frameworks_in(env))
    if json:
        _print_json(told)
        return
    for line in _lines(told):
        typer.echo(line)


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    """A card in words."""
    from onnxeq.preprocessing.recipe import recipe_from_record, words
    from onnxeq.records import spec_from_record
    from onnxeq.zoo import BROUGHT_ALONG

    entry = told["entry"]
    yield f"{told['zoo']}:{entry['name']}"
    for key in ("family", "note"):
        if entry[key]:
            yield f"  {key}: {entry[key]}"
    for record in entry["inputs"]:
        spec = spec_from_record(record)
        span = f", values {spec.range.low:g} to {spec.range.high:g}" if spec.range else ""
        yield f"  input {spec.name}: {spec.text()}{span}"
    for name, fact in told["facts"].items():
        value = fact["value"]
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {number:g}" for key, number in value.items())
        elif isinstance(value, int):
            value = f"{value:,}"
        yield f"  {name}: {'unknown' if value is None else value} ({fact['source']})"
    if told["recipe"] is None:
        yield f"  preprocessing: unknown ({told['no_recipe']})"
    else:
        recipe = recipe_from_record(told["recipe"])
        ran = "run by the zoo's own code" if recipe.exact else "as documented"
        yield f"  preprocessing, {ran} ({recipe.source}):"
        for number, step in enumerate(recipe.steps, 1):
            yield f"    {number}. {words(step)}"
        if recipe.note:
            yield f"    note: {recipe.note}"
    weights = "" if told["zoo"] in BROUGHT_ALONG else "@seeded"
    yield f"  without a network: onnxeq check {told['zoo']}:{entry['name']}{weights}"


def _print_json(document: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, indent=1))
