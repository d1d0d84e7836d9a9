"""``onnxeq compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxeq import errors
from onnxeq.cli import options as o

__all__ = ["compare"]


def compare(
    models: Annotated[
        list[str], typer.Argument(metavar="REF REF...", help="Two or more models, each as check takes a SOURCE.")
    ],
    only: Annotated[
        str, typer.Option("--only", help="What to compare: architecture, function, accuracy, latency; by default all.")
    ] = "",
    inputs: o.Inputs = [],  # noqa: B006 - typer copies defaults
    shape: o.Shape = [],  # noqa: B006
    seed: o.Seed = 0,
    opset: o.Opset = None,
    exporter: o.Exporter = "",
    every: Annotated[bool, typer.Option("--all", help="Name all places of a difference; count all layers.")] = False,
    timeout: o.Timeout = None,
    trust: o.Trust = False,
    dataset: o.Dataset = "",
    class_map: o.ClassMap = None,
    max_items: o.MaxItems = None,
    recipe: o.Recipes = [],  # noqa: B006
    env: o.Env = "",
    batch: Annotated[str, typer.Option(help="Batch sizes at which latency is measured, e.g. 1,8.")] = "1",
    providers: Annotated[str, typer.Option(help="Of onnxruntime, for latency: cpu,cuda.")] = "cpu",
    seconds: Annotated[
        float | None,
        typer.Option(help="How long latency is measured, in all; by default 5 s for each model and batch size."),
    ] = None,
    no_cache: o.NoCache = False,
    json: o.Json = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Also write the comparison: FILE.json, .md, .csv or .html.")
    ] = None,
    quiet: o.Quiet = False,
) -> None:
    """Say how several models differ: in layers, outputs, accuracy on a labelled set, and in what they cost to run.

    The exit status is 1 where architectures, outputs or accuracies differ. How long models take does not change it:
    machines differ.
    """
    from rich.console import Console

    from onnxeq import inputs as inputs_
    from onnxeq.compare.comparing import compare as run
    from onnxeq.compare.document import to_json
    from onnxeq.compare.values import Part
    from onnxeq.report.comparison import show
    from onnxeq.report.comparison_files import check_name, write
    from onnxeq.report.progress import JobProgress

    if report is not None:
        check_name(report)
    with JobProgress(Console(stderr=True), quiet=quiet) as progress:
        found = run(
            *models, parts=only.split(",") if only else tuple(Part), inputs=inputs,
            shapes=inputs_.parse_shape(shape), seed=seed, opset=opset, exporter=exporter, timeout_s=timeout,
            trust=trust, use_cache=not no_cache, env=env, listener=progress,
            dataset=dataset, class_map=class_map, max_items=max_items, recipes=recipe,
            batches=o.batches(batch), providers=o.split(providers), seconds=seconds,
        )  # fmt: skip
    if json:
        typer.echo(to_json(found))
    else:
        show(found, Console(highlight=False), every=every)
    if report is not None:
        write(found, report)
    if not found.whole:
        raise typer.Exit(errors.EXIT_UNDECIDED)
    if found.alike and found.latency is not None and found.latency.not_run:
        raise typer.Exit(errors.EXIT_UNDECIDED)
    raise typer.Exit(errors.EXIT_EQUIVALENT if found.alike else errors.EXIT_DIVERGENT)
