"""``onnxeq golden``: golden outputs over years of upgrades."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from onnxeq import errors
from onnxeq.cli import options as o

__all__ = ["app", "start_ahead"]

app = typer.Typer(
    help="Golden outputs: recorded, checked within a measured error bar, and changed only by decision.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Dir = Annotated[Path, typer.Option("--dir", help="The folder of the goldens.")]
Name = Annotated[str, typer.Option("--name", help="What to call it; by default made from the model's reference.")]
Names = Annotated[list[str], typer.Argument(help="Goldens; all of the folder without.")]
Provider = Annotated[str, typer.Option("--provider", help="cpu or cuda.")]
_FOLDER = Path("golden")


def start_ahead(arguments: Sequence[str]) -> None:
    """For ``golden check``, starts the process that runs the models: it imports the runtime while these are parsed."""
    elsewhere = any(argument.startswith(("--env", "--help", "-h")) for argument in arguments)
    if list(arguments[:2]) == ["golden", "check"] and not elsewhere:
        from onnxeq.cache import cache_root
        from onnxeq.processes import start_early

        start_early(cache_root() / "jobs", "golden")


@app.command("record")
def record(
    model: Annotated[str, typer.Argument(help="zoo:name[@weights], a model file, or file.py:factory.")],
    name: Name = "",
    dir_: Dir = _FOLDER,
    inputs: o.Inputs = [],  # noqa: B006 - typer copies defaults
    shape: o.Shape = [],  # noqa: B006
    batch: o.Batch = "1,3",
    seed: o.Seed = 0,
    provider: Provider = "cpu",
    runner: o.Runner = "",
    opset: o.Opset = None,
    exporter: o.Exporter = "",
    timeout: o.Timeout = None,
    trust: o.Trust = False,
    env: o.Env = "",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Even where the executions disagree, or only one could be run.")
    ] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Run MODEL and keep what it gives as a new golden; overwrites nothing."""
    from onnxeq.golden import record as make
    from onnxeq.inputs import parse_shape

    with _progress(quiet) as progress:
        made = make(
            model, name, folder=dir_, inputs=inputs, shapes=parse_shape(shape), batches=o.batches(batch), seed=seed,
            provider=provider, runner=runner or "ort", opset=opset, exporter=exporter, timeout_s=timeout, trust=trust,
            env=env, anyway=anyway, listener=progress,
        )  # fmt: skip
    _told(made, dir_, json)


@app.command("import")
def import_(
    files: Annotated[
        list[Path], typer.Argument(help="Outputs, one file for each input: .npz, Polygraphy's .json, test_data_set_N.")
    ],
    model: Annotated[str, typer.Option("--model", help="What made them.")],
    name: Name = "",
    dir_: Dir = _FOLDER,
    inputs: o.Inputs = [],  # noqa: B006
    shape: o.Shape = [],  # noqa: B006
    batch: o.Batch = "1,3",
    seed: o.Seed = 0,
    provider: Provider = "cpu",
    timeout: o.Timeout = None,
    trust: o.Trust = False,
    env: o.Env = "",
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Make a golden of saved outputs, with the error bar of MODEL as it runs now."""
    from onnxeq.golden import import_golden
    from onnxeq.inputs import parse_shape

    with _progress(quiet) as progress:
        made = import_golden(
            files, model, name, folder=dir_, inputs=inputs, shapes=parse_shape(shape), batches=o.batches(batch),
            seed=seed, provider=provider, timeout_s=timeout, trust=trust, env=env, listener=progress,
        )  # fmt: skip
    _told(made, dir_, json)


@app.command("check")
def check(
    names: Names = [],  # noqa: B006
    dir_: Dir = _FOLDER,
    provider: Annotated[str, typer.Option("--provider", help="cpu or cuda, in the recorded one's place.")] = "",
    runner: o.Runner = "",
    exporter: o.Exporter = "",
    opset: o.Opset = None,
    timeout: o.Timeout = None,
    trust: o.Trust = False,
    env: o.Env = "",
    no_pending: Annotated[bool, typer.Option("--no-pending", help="Write nothing beside what changed.")] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Run the models again: what changed, by how much above noise, and why."""
    from onnxeq.golden import check as run_check

    with _progress(quiet) as progress:
        found = run_check(
            names, folder=dir_, runner=runner or None, provider=provider or None, exporter=exporter or None,
            opset=opset, trust=trust, env=env, timeout_s=timeout, keep_pending=not no_pending, listener=progress,
        )  # fmt: skip
    from onnxeq.report.golden import check_document, check_lines  # what it needs was loaded while models ran

    if json:
        _print_json(check_document(found))
    else:
        for line in check_lines(found):
            typer.echo(line)
    raise typer.Exit(found.exit_status)


@app.command("review")
def review(names: Names = [], dir_: Dir = _FOLDER) -> None:  # noqa: B006
    """Go through what waits: accept, reject, skip, or accept all."""
    import sys

    from onnxeq.golden.reviewing import review as go_through
    from onnxeq.report.golden import difference_lines

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        hint = 'without one: onnxeq golden pending, then accept NAME --because "..." or reject NAME'
        raise errors.UsageError("review asks questions, and there is no terminal", hint=hint)
    from rich.console import Console
    from rich.prompt import Prompt

    console = Console(highlight=False, markup=False)

    def tell(difference: Any) -> None:
        for line in difference_lines(difference):
            console.print(line)

    done = go_through(lambda text: Prompt.ask(text, console=console), tell, console.print, folder=dir_, names=names)
    counts = ((len(done.accepted), "accepted"), (len(done.rejected), "rejected"), (len(done.skipped), "skipped"))
    typer.echo(", ".join(f"{count} {what}" for count, what in counts))


@app.command("accept")
def accept(
    names: Annotated[list[str], typer.Argument(help="Goldens with a change that waits.")],
    because: Annotated[str, typer.Option("--because", help="Why; it is kept in the record.")],
    dir_: Dir = _FOLDER,
) -> None:
    """Make what waits the accepted golden."""
    from onnxeq.golden import accept as take

    for name in names:
        take(name, because=because, folder=dir_)
        typer.echo(f"{name}: accepted")


@app.command("reject")
def reject(
    names: Annotated[list[str], typer.Argument(help="Goldens with a change that waits.")], dir_: Dir = _FOLDER
) -> None:
    """Take away what waits; the accepted golden stays."""
    from onnxeq.golden import reject as refuse

    for name in names:
        refuse(name, folder=dir_)
        typer.echo(f"{name}: rejected")


@app.command("pending")
def pending(dir_: Dir = _FOLDER, json: o.Json = False) -> None:
    """List what waits for a decision."""
    from onnxeq.golden import pending as waiting
    from onnxeq.report.golden import golden_document

    found = waiting(dir_)
    if json:
        rows = [{"name": g.name, **(golden_document(g)["pending"][0] if g.pending else {})} for g in found]
        _print_json({"schema": "onnxeq.golden-pending/1", "folder": str(dir_), "pending": rows})
        return
    for golden in found:
        for said in golden.pending:
            typer.echo(errors.shown(f"{golden.name:<24} {said.verdict}: {'; '.join(said.causes)}"))
    if not found:
        typer.echo(f"nothing waits in {dir_}", err=True)


@app.command("list")
def list_(dir_: Dir = _FOLDER, json: o.Json = False) -> None:
    """List the goldens of a folder."""
    from onnxeq.golden import listed
    from onnxeq.golden.store import pending_names
    from onnxeq.golden.values import Golden
    from onnxeq.report.golden import list_lines

    rows, waiting = listed(dir_), pending_names(dir_)
    if json:
        told = [
            {"name": n, "model": h.model, "origin": str(h.origin), "on": h.on, "pending": n in waiting, "problem": ""}
            if isinstance(h, Golden)
            else {"name": n, "pending": n in waiting, "problem": h.line()}
            for n, h in rows
        ]
        _print_json({"schema": "onnxeq.golden-list/1", "folder": str(dir_), "goldens": told})
    else:
        for line in list_lines(rows, waiting):
            typer.echo(line)
        if not rows:
            typer.echo(f"no goldens in {dir_}; make one: onnxeq golden record MODEL", err=True)
    if any(not isinstance(h, Golden) for _, h in rows):
        raise typer.Exit(errors.EXIT_USAGE)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="The golden.")],
    dir_: Dir = _FOLDER,
    new: Annotated[bool, typer.Option("--new", help="The record that waits, beside the accepted one.")] = False,
    json: o.Json = False,
) -> None:
    """Show a golden's record, or with --new what waits and how far it is from the accepted one."""
    from onnxeq.golden import store
    from onnxeq.golden.record_file import dumps
    from onnxeq.golden.reviewing import compared
    from onnxeq.report.golden import difference_lines, golden_document

    held = store.read(dir_, name, pending=new)
    if json:
        _print_json({"schema": "onnxeq.golden/1", **golden_document(held.golden)})
    elif new:
        for line in difference_lines(compared(dir_, name)):
            typer.echo(line)
    else:
        typer.echo(dumps(held.golden), nl=False)


@app.command("prune")
def prune(
    dir_: Dir = _FOLDER,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
) -> None:
    """Remove goldens whose model is gone."""
    from onnxeq.golden import prune as take_away

    for name in take_away(dir_, dry_run=dry_run):
        typer.echo(f"{name}: {'its model is gone' if dry_run else 'removed'}")


def _told(made: Any, folder: Path, json: bool) -> None:
    from onnxeq.report.golden import golden_document

    if json:
        _print_json({"schema": "onnxeq.golden/1", **golden_document(made)})
        return
    for apart in made.agreement:
        typer.echo(errors.shown(f"{apart.first} and {apart.second}: {apart.ratio:.3g}x rounding noise apart"))
    for note in made.notes:
        typer.echo(errors.shown(f"note: {note}"))
    typer.echo(f"{folder / made.name}.toml: {made.origin}, {len(made.outputs)} outputs, {made.layers} layers")


def _progress(quiet: bool) -> Any:
    if quiet:
        return contextlib.nullcontext()
    from rich.console import Console

    from onnxeq.report.progress import JobProgress

    return JobProgress(Console(stderr=True))


def _print_json(document: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False))
