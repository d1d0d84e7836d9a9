"""``onnxeq diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxeq.cli import options as o
from onnxeq.types import Report

__all__ = ["diff"]


def diff(
    source: Annotated[str, typer.Argument(help="zoo:name[@weights], a model file, or file.py:factory.")],
    target: Annotated[
        str | None, typer.Argument(help="The ONNX file to judge; without one SOURCE is exported.")
    ] = None,
    rung: Annotated[
        str, typer.Option(help="Compare the two executions of a rung: kernels, optimizer, provider, graph, ...")
    ] = "",
    inputs: o.Inputs = [],  # noqa: B006 - typer copies defaults
    shape: o.Shape = [],  # noqa: B006
    batch: Annotated[str, typer.Option(help="Batch size, where the batch may vary; of several the first.")] = "1",
    seed: o.Seed = 0,
    providers: o.ProviderList = "",
    runner: o.Runner = "",
    opset: o.Opset = None,
    exporter: o.Exporter = "",
    accept: o.Accept = [],  # noqa: B006
    rtol: o.Rtol = None,
    atol: o.Atol = None,
    memory: Annotated[str, typer.Option(help="What inner values may take at a time, e.g. 512MiB.")] = "1GiB",
    load_trace: Annotated[
        Path | None,
        typer.Option(help="Hold the target against a saved trace, Polygraphy's outputs (.json) or a test_data_set_N."),
    ] = None,
    save_trace: Annotated[Path | None, typer.Option(help="Keep the target's inner values in this new folder.")] = None,
    repro: Annotated[
        Path | None, typer.Option(help="Write a stand-alone repro of each layer that creates error into this folder.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw error along depth: FILE.svg or FILE.png.")] = None,
    every: Annotated[bool, typer.Option("--all", help="List every layer.")] = False,
    timeout: o.Timeout = None,
    trust: o.Trust = False,
    env: o.Env = "",
    no_cache: o.NoCache = False,
    json: o.Json = False,
    report: o.ReportFile = None,
    quiet: o.Quiet = False,
) -> None:
    """Say layer by layer where SOURCE and its ONNX form part: which layers create error, which only hand it on."""
    from onnxeq.cache import cache_root
    from onnxeq.envs.environment import frameworks_in
    from onnxeq.processes import start_early
    from onnxeq.zoo import converter_for, parse, require_framework

    ref = parse(source)
    if (converter := converter_for(ref)) != "onnx":
        where = require_framework(ref, environment=frameworks_in(env))
        about = () if converter == "factory" else (converter, ref.zoo)
        start_early(cache_root() / "jobs", "native", *about, environment=where)
    elif target is not None and not rung and not env:
        for _ in range(1 if load_trace else 2):
            start_early(cache_root() / "jobs", "trace")

    from rich.console import Console

    from onnxeq import inputs as inputs_
    from onnxeq.cli.check import STATUS
    from onnxeq.diff import diff as run_diff
    from onnxeq.report import plot as plot_
    from onnxeq.report import to_json
    from onnxeq.report.files import check_name, write
    from onnxeq.report.layers import show
    from onnxeq.report.progress import JobProgress

    if report is not None:
        check_name(report)
    if plot is not None:
        plot_.check_name(plot)
    with JobProgress(Console(stderr=True), quiet=quiet) as progress:
        found: Report = run_diff(
            source, target, inputs=inputs, shapes=inputs_.parse_shape(shape), batch=o.batches(batch)[0],
            seed=seed, rung=rung, providers=o.split(providers) or None, runner=runner or None, opset=opset,
            exporter=exporter, accept=[a for item in accept for a in o.split(item)], rtol=rtol, atol=atol,
            memory=memory, load_trace=load_trace, save_trace=save_trace, repro=repro, timeout_s=timeout,
            trust=trust, use_cache=not no_cache,
            env=env, listener=progress,
        )  # fmt: skip
    if json:
        typer.echo(to_json(found))
    else:
        show(found, Console(highlight=False), every=every)
    if report is not None:
        write(found, report)
    if plot is not None:
        plot_.write_plot(found, plot)
    raise typer.Exit(STATUS[found.verdict])
