"""``onnxeq check``."""

from __future__ import annotations

from typing import Annotated

import typer

from onnxeq import errors
from onnxeq.cli import options as o
from onnxeq.types import Report, Verdict

__all__ = ["STATUS", "batches", "check"]

STATUS = {
    Verdict.EQUIVALENT: errors.EXIT_EQUIVALENT,
    Verdict.DIVERGENT: errors.EXIT_DIVERGENT,
    Verdict.INCONCLUSIVE: errors.EXIT_UNDECIDED,
}


def check(
    source: Annotated[str, typer.Argument(help="zoo:name[@weights], a model file, or file.py:factory.")],
    target: Annotated[
        str | None,
        typer.Argument(help="What to judge: an ONNX file or whatever SOURCE can be; without one SOURCE is exported."),
    ] = None,
    inputs: o.Inputs = [],  # noqa: B006 - typer copies defaults
    shape: o.Shape = [],  # noqa: B006
    batch: o.Batch = "1,3",
    seed: o.Seed = 0,
    providers: o.ProviderList = "",
    runner: o.Runner = "",
    opset: o.Opset = None,
    exporter: o.Exporter = "",
    accept: o.Accept = [],  # noqa: B006
    rtol: o.Rtol = None,
    atol: o.Atol = None,
    timeout: o.Timeout = None,
    trust: o.Trust = False,
    no_cache: o.NoCache = False,
    env: o.Env = "",
    against_env: Annotated[
        str, typer.Option(help="Run SOURCE in this environment too: does another version change the result?")
    ] = "",
    weights_only: Annotated[
        bool, typer.Option("--weights-only", help="Compare the stored weights alone; run nothing.")
    ] = False,
    json: o.Json = False,
    report: o.ReportFile = None,
    quiet: o.Quiet = False,
) -> None:
    """Say whether SOURCE and its ONNX form, or TARGET, are equivalent and, if not, on which rung they part."""
    from onnxeq.cache import cache_root
    from onnxeq.envs.environment import frameworks_in
    from onnxeq.processes import start_early
    from onnxeq.zoo import converter_for, parse

    ref = parse(source)
    if (converter := converter_for(ref)) != "onnx":
        about = () if converter == "factory" else (converter, ref.zoo)
        start_early(cache_root() / "jobs", "native", *about, environment=frameworks_in(env))

    from rich.console import Console

    from onnxeq import inputs as inputs_
    from onnxeq.check import check as run_check
    from onnxeq.report import to_json
    from onnxeq.report.files import check_name, write
    from onnxeq.report.progress import JobProgress
    from onnxeq.report.terminal import show

    if report is not None:
        check_name(report)
    with JobProgress(Console(stderr=True), quiet=quiet) as progress:
        found: Report = run_check(
            source, target, inputs=inputs, shapes=inputs_.parse_shape(shape), batches=batches(batch), seed=seed,
            providers=o.split(providers) or None, runner=runner or None, opset=opset, exporter=exporter,
            accept=[a for item in accept for a in o.split(item)], rtol=rtol, atol=atol, timeout_s=timeout,
            trust=trust, use_cache=not no_cache, listener=progress, weights_only=weights_only, env=env,
            against_env=against_env,
        )  # fmt: skip
    if json:
        typer.echo(to_json(found))
    else:
        show(found, Console(highlight=False))
    if report is not None:
        write(found, report)
    raise typer.Exit(STATUS[found.verdict])


def batches(text: str) -> list[int]:
    """The sizes of ``--batch 1,4``."""
    sizes = o.split(text)
    if not sizes or not all(s.isdigit() and int(s) > 0 for s in sizes):
        raise errors.UsageError(f"'{text}' is no list of batch sizes", hint="write --batch 1,4")
    return [int(s) for s in sizes]
