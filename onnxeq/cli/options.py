"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnxeq.errors import UsageError

__all__ = [
    "Accept", "Atol", "Batch", "ClassMap", "Dataset", "Env", "Exporter", "Inputs", "Json", "MaxItems", "NoCache",
    "Opset", "ProviderList", "Quiet", "Recipes", "ReportFile", "Rtol", "Runner", "Seed", "Shape", "Timeout", "Trust",
    "batches", "split",
]  # fmt: skip

Accept = Annotated[list[str], typer.Option(help="A reduced precision that is fine: tf32, float16, bfloat16, int8.")]
Atol = Annotated[float | None, typer.Option(help="With --rtol: |a-b| <= atol + rtol*|b| in place of measured limits.")]
Batch = Annotated[str, typer.Option(help="Batch sizes to try where the batch may vary, e.g. 1,4.")]
Env = Annotated[str, typer.Option(help="The environment (onnxeq env list) in which the framework runs.")]
Exporter = Annotated[str, typer.Option(help="Which of the framework's exporters; torch: dynamo, torchscript.")]
Inputs = Annotated[
    list[Path],
    typer.Option(
        help="Inputs: .npz, .npy, Polygraphy's .json, test_data_set_N, a folder; check: pictures, too (repeatable)."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Run everything again, whatever earlier checks left.")]
Opset = Annotated[int | None, typer.Option(help="Opset of the export; by default the exporter's.")]
ProviderList = Annotated[str, typer.Option("--providers", help="cpu,cuda; by default those that this machine has.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
ReportFile = Annotated[
    Path | None, typer.Option("--report", help="Also write the report: FILE.html, .json, .md or .xml.")
]
Rtol = Annotated[float | None, typer.Option(help="See --atol.")]
Runner = Annotated[
    str, typer.Option(help="The runtime to judge in onnxruntime's place: NAME, module:object or FILE.py:object.")
]
Seed = Annotated[int, typer.Option(help="Seed of generated inputs.")]
Shape = Annotated[list[str], typer.Option(help="An input's shape, NAME=1x3x224x224 (repeatable).")]
Timeout = Annotated[float | None, typer.Option(help="Limit for each job in seconds.")]
Trust = Annotated[bool, typer.Option("--trust", help="Let code stored in the model file run.")]

Dataset = Annotated[str, typer.Option(help="Labelled items for accuracy: imagefolder:FOLDER, npz:FILE or digits.")]
ClassMap = Annotated[
    Path | None, typer.Option(help='JSON that says which class a folder is: {"folder": index}, or a list.')
]
MaxItems = Annotated[int | None, typer.Option(help="At most so many items, drawn class by class with --seed.")]
Recipes = Annotated[
    list[str],
    typer.Option(
        "--recipe", help="Prepare pictures by ZOO:NAME or FILE.json: of models without a recipe; MODEL=RECIPE for one."
    ),
]


def split(text: str) -> list[str]:
    """A comma-separated list; empty text is an empty list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def batches(text: str) -> list[int]:
    """The sizes that ``--batch 1,4`` names.

    Raises:
        onnxeq.errors.UsageError: It names none.
    """
    sizes = split(text)
    if not sizes or not all(s.isdigit() and int(s) > 0 for s in sizes):
        raise UsageError(f"'{text}' is no list of batch sizes", hint="write --batch 1,4")
    return [int(s) for s in sizes]
