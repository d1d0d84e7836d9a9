"""What a golden is fed with: described at birth, made again at every check."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnxeq import inputs as inputs_
from onnxeq.arrays import feeds_digest
from onnxeq.errors import UnusableGolden, UsageError
from onnxeq.golden.values import Inputs, InputsKind, Tensor
from onnxeq.types import Array, Dim, Feed, TensorSpec, ValueRange

__all__ = ["described", "of_golden", "regenerated"]

_MOST_STORED = 2**22
"""Bytes of inputs that are kept beside the outputs; larger ones are read from their files."""


def described(
    feeds: Sequence[Feed],
    specs: Sequence[TensorSpec],
    *,
    seed: int,
    batches: Sequence[int],
    dynamic: bool,
    files: Sequence[Path],
    folder: Path,
) -> tuple[Inputs, dict[str, Array]]:
    """How these feeds can be had again: from the seed, if that gives the same ones; else stored, or from their files.

    Args:
        feeds: What the model is fed with.
        specs: What it takes, as the feeds were generated.
        seed: Of the generator.
        batches: Batch sizes that were asked for.
        dynamic: Whether the batch may vary.
        files: What the user gave, if all of the inputs come from files.
        folder: Of the goldens.

    Returns:
        The description, and arrays to keep.

    Raises:
        UsageError: They are too large to be kept and in no file.
    """
    sha256 = feeds_digest(feeds)
    if specs and all(s.shape is not None for s in specs):
        seeded = Inputs(
            InputsKind.SEED, sha256, len(feeds), seed=seed, batches=tuple(batches), dynamic=dynamic,
            tensors=tuple(_tensor(s) for s in specs),
        )  # fmt: skip
        try:
            if feeds_digest(_generate(seeded)) == sha256:
                return seeded, {}
        except UsageError:  # what the specifications lack, they were not generated from
            pass
    size = sum(a.nbytes for feed in feeds for a in feed.values())
    if size <= _MOST_STORED:
        kept = {
            f"input/{i}/{j:04d}/{name}": array
            for i, feed in enumerate(feeds)
            for j, (name, array) in enumerate(feed.items())
        }
        return Inputs(InputsKind.STORED, sha256, len(feeds)), kept
    if not files:
        hint = "save them with numpy.savez and give the file: --inputs FILE.npz"
        raise UsageError(f"inputs of {size} bytes are kept in no golden, {_MOST_STORED} are", hint=hint)
    named = tuple(Path(os.path.relpath(f, folder)).as_posix() for f in files)
    return Inputs(InputsKind.FILES, sha256, len(feeds), files=named, tensors=tuple(_tensor(s) for s in specs)), {}


def _tensor(spec: TensorSpec) -> Tensor:
    span = () if spec.range is None else (float(spec.range.low), float(spec.range.high))
    return Tensor(spec.name, spec.dtype, tuple(map(str, spec.shape or ())), span)


def _spec(tensor: Tensor) -> TensorSpec:
    shape: tuple[Dim, ...] = tuple(int(d) if d.isdigit() else d for d in tensor.shape)
    span = ValueRange(*tensor.range) if len(tensor.range) == 2 else None
    return TensorSpec(tensor.name, tensor.dtype, shape, span)


def _generate(inputs: Inputs) -> list[dict[str, Array]]:
    specs = [_spec(t) for t in inputs.tensors]
    return inputs_.generate(specs, seed=inputs.seed, batches=inputs.batches, dynamic_batch=inputs.dynamic)


def regenerated(inputs: Inputs) -> list[dict[str, Array]]:
    """The feeds of a seed.

    Raises:
        UnusableGolden: They are other ones than the golden was made with.
    """
    feeds = _generate(inputs)
    _hold(feeds, inputs, f"seed {inputs.seed} gives")
    return feeds


def of_golden(inputs: Inputs, arrays: Mapping[str, Array], folder: Path) -> list[dict[str, Array]]:
    """The feeds of a golden.

    Raises:
        UnusableGolden: They are not to be had, or other ones than the golden was made with.
    """
    if inputs.kind is InputsKind.SEED:
        return regenerated(inputs)
    if inputs.kind is InputsKind.FILES:
        try:
            specs = [_spec(t) for t in inputs.tensors]
            feeds = [inputs_.check_feed(f, specs) for f in inputs_.read([folder / file for file in inputs.files])]
        except UsageError as error:
            raise UnusableGolden(f"the golden's inputs: {error.message}", hint=error.hint) from None
        _hold(feeds, inputs, f"{', '.join(inputs.files)} holds")
        return feeds
    stored: list[dict[str, Array]] = [{} for _ in range(inputs.feeds)]
    for key in sorted(k for k in arrays if k.startswith("input/")):
        _, index, _, name = key.split("/", 3)
        if index.isdigit() and int(index) < len(stored):
            stored[int(index)][name] = arrays[key]
    _hold(stored, inputs, "its arrays hold")
    return stored


def _hold(feeds: Sequence[Feed], inputs: Inputs, what: str) -> None:
    if feeds_digest(feeds) != inputs.sha256:
        said = f"{what} other inputs than the golden was made with (SHA-256 {feeds_digest(feeds)[:12]},"
        raise UnusableGolden(f"{said} recorded {inputs.sha256[:12]})", hint="record it again: --inputs FILE")
