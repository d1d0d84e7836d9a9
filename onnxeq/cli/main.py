"""Entry point of the ``onnxeq`` command: collects the commands and turns errors into exit statuses.

Nothing heavy is imported here: ``onnxeq --help`` must answer at once.
"""

from __future__ import annotations

import gc
import json
import sys
import traceback

import typer

from onnxeq import errors
from onnxeq.cli import check, compare, convert, diff, doctor, env, golden, ledger, zoo

__all__ = ["app", "main"]

app = typer.Typer(
    name="onnxeq",
    help="Says whether a model and its ONNX conversion are equivalent, and if not, why.",
    epilog="Exit status: 0 equivalent or done, 1 divergent, 2 wrong usage or input, 3 undecided, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("check")(check.check)
app.command("diff")(diff.diff)
app.command("compare")(compare.compare)
app.command("convert")(convert.convert)
app.command("normalize")(convert.normalize)
app.command("ledger")(ledger.ledger)
app.add_typer(zoo.app, name="zoo")
app.add_typer(env.app, name="env")
app.add_typer(golden.app, name="golden")
app.command("doctor")(doctor.doctor)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        from importlib import metadata

        typer.echo(f"onnxeq {metadata.version('onnxeq')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(errors.EXIT_USAGE)


def main(argv: list[str] | None = None) -> None:
    """Runs the command line and exits with the contract's status."""
    gc.set_threshold(100_000, 20, 20)  # modules stay: looking through them again and again is a tenth of a start
    sys.exit(run(argv))


def run(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status. Every error becomes one line on standard error."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        golden.start_ahead(arguments)
        status = int(app(arguments, standalone_mode=False) or 0)
        return _interrupted() if status == errors.EXIT_INTERRUPTED else status
    except errors.OnnxeqError as error:
        return _report_error(error, arguments)
    except typer.Exit as done:
        return _interrupted() if done.exit_code == errors.EXIT_INTERRUPTED else int(done.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except Exception as error:
        if hasattr(error, "format_message"):  # the parser's own usage errors, whichever click it uses
            hint = "onnxeq --help lists what there is"
            return _report_error(errors.UsageError(str(error.format_message()), hint=hint), arguments)
        # A fault of ours must not read as "divergent": it is undecided, with the traceback for the report.
        traceback.print_exc()
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return _report_error(errors.CannotRun(f"onnxeq itself failed: {text}", hint="please report it"), arguments)


def _interrupted() -> int:
    print("onnxeq: interrupted; nothing half-done was kept", file=sys.stderr)  # noqa: T201
    return errors.EXIT_INTERRUPTED


def _report_error(error: errors.OnnxeqError, arguments: list[str]) -> int:
    print(f"onnxeq: {error.line()}", file=sys.stderr)  # noqa: T201
    if "--json" in arguments:
        document = {
            "schema": "onnxeq.error/1",
            "error": errors.to_record(error),
            "exit_status": error.exit_status,
        }
        print(json.dumps(document, indent=1))  # noqa: T201
    return error.exit_status
