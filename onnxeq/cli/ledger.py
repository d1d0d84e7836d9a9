"""``onnxeq ledger``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from onnxeq import errors
from onnxeq.cli import options as o

__all__ = ["ledger"]


def ledger(
    source: Annotated[str, typer.Argument(help="zoo:name[@weights], a model file, or file.py:factory.")],
    target: Annotated[str | None, typer.Argument(help="The ONNX file; without one SOURCE is exported.")] = None,
    inputs: o.Inputs = [],  # noqa: B006 - typer copies defaults
    shape: o.Shape = [],  # noqa: B006
    seed: o.Seed = 0,
    opset: o.Opset = None,
    every: Annotated[bool, typer.Option("--all", help="Also list the exporter's own constants.")] = False,
    timeout: o.Timeout = None,
    trust: o.Trust = False,
    env: o.Env = "",
    no_cache: o.NoCache = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Account for every weight of SOURCE and every constant of its ONNX form, without running either."""
    from rich.console import Console

    from onnxeq import inputs as inputs_
    from onnxeq.ledger import ledger as run
    from onnxeq.report.ledger import show
    from onnxeq.report.progress import JobProgress
    from onnxeq.weighing import unexecuted
    from onnxeq.weights.document import to_record

    with JobProgress(Console(stderr=True), quiet=quiet) as progress:
        found = run(
            source, target, inputs=inputs, shapes=inputs_.parse_shape(shape), seed=seed, opset=opset,
            timeout_s=timeout, trust=trust, use_cache=not no_cache, env=env, listener=progress,
        )  # fmt: skip
    if json:
        _print_json({**to_record(found), "faults": len(unexecuted(found))})
    else:
        show(found, Console(highlight=False), every=every)
    raise typer.Exit(errors.EXIT_DIVERGENT if unexecuted(found) else errors.EXIT_EQUIVALENT)


def _print_json(document: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, indent=1, ensure_ascii=False))
