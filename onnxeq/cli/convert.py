"""``onnxeq convert`` and ``onnxeq normalize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxeq.cli import options as o

__all__ = ["convert", "normalize"]

Output = Annotated[Path, typer.Option("--output", "-o", help="The ONNX file to write.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]


def convert(
    source: Annotated[str, typer.Argument(help="zoo:name[@weights], a model file, or file.py:factory.")],
    output: Output,
    shape: o.Shape = [],  # noqa: B006 - typer copies defaults
    inputs: o.Inputs = [],  # noqa: B006
    opset: o.Opset = None,
    exporter: o.Exporter = "",
    seed: o.Seed = 0,
    raw: Annotated[bool, typer.Option("--raw", help="Write the exporter's graph as it is, not normalised.")] = False,
    force: Force = False,
    timeout: o.Timeout = None,
    trust: o.Trust = False,
    env: o.Env = "",
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Export SOURCE to ONNX and normalise the graph. Check it afterwards: onnxeq check SOURCE FILE."""
    from rich.console import Console

    from onnxeq import inputs as inputs_
    from onnxeq.convert import convert as run
    from onnxeq.report.progress import JobProgress

    with JobProgress(Console(stderr=True), quiet=quiet) as progress:
        done = run(
            source, output, inputs=inputs, shapes=inputs_.parse_shape(shape), opset=opset, exporter=exporter, seed=seed,
            normalized=not raw, overwrite=force, timeout_s=timeout, trust=trust, env=env, listener=progress,
        )  # fmt: skip
    _say(done, json)


def normalize(
    model: Annotated[Path, typer.Argument(help="The ONNX file to normalise.")],
    output: Output,
    opset: o.Opset = None,
    force: Force = False,
    timeout: o.Timeout = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Normalise the graph of an ONNX file. Check it afterwards: onnxeq check MODEL FILE."""
    from rich.console import Console

    from onnxeq.convert import normalize as run
    from onnxeq.report.progress import JobProgress

    with JobProgress(Console(stderr=True), quiet=quiet) as progress:
        done = run(model, output, opset=opset, overwrite=force, timeout_s=timeout, listener=progress)
    _say(done, json)


def _say(done: object, as_json: bool) -> None:
    import dataclasses
    import json

    from onnxeq.convert import Converted

    assert isinstance(done, Converted)  # noqa: S101 - for the type checker
    if as_json:
        typer.echo(
            json.dumps({"schema": "onnxeq.convert/1", **dataclasses.asdict(done), "path": str(done.path)}, indent=1)
        )
        return
    typer.echo(
        f"{done.path}: {done.nodes} nodes ({done.nodes_before} before), opset {done.opset}, sha256 {done.sha256[:16]}"
    )
    for note in done.notes:
        typer.echo(f"note: {note}", err=True)
