"""Inputs: those that a user gives, and seeded ones that exercise a model.

A float input is a mixture of smooth patterns and noise, different in contrast from sample to sample:
white noise alone averages out in pooling layers, so that every sample would give nearly the same output.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnxeq import array_files, memory, polygraphy_files
from onnxeq.arrays import dtype_name, dtype_of
from onnxeq.errors import BadInputs, UnusableModel, UsageError
from onnxeq.types import Array, Dim, Feed, TensorSpec, ValueRange, example_size

if TYPE_CHECKING:
    import onnx

__all__ = [
    "DEFAULT_BATCHES",
    "adapt",
    "batch_size",
    "check_feed",
    "generate",
    "index_ranges",
    "parse_shape",
    "range_over",
    "read",
    "with_shapes",
]

DEFAULT_BATCHES = (1, 3)
"""Batch sizes of the default feeds: four samples, and a second size shows what a trace baked in."""

_DRAWN = 4
"""Arrays of an input's size that are held while it is drawn."""

STATIC_FEEDS = 4
"""Feeds for a model whose batch cannot vary."""


def parse_shape(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Reads ``--shape NAME=1x3x224x224`` options; a shape without a name is stored under ``""``.

    Raises:
        UsageError: Not a shape.
    """
    shapes = {}
    for text in texts:
        name, equals, sizes = text.rpartition("=")
        if not re.fullmatch(r"\d+(x\d+)*|scalar", sizes):
            raise UsageError(f"'{text}' is not a shape", hint="write it as NAME=1x3x224x224")
        shapes[name if equals else ""] = () if sizes == "scalar" else tuple(int(s) for s in sizes.split("x"))
    return shapes


def with_shapes(specs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]]) -> tuple[TensorSpec, ...]:
    """``specs`` with the given shapes put in; ``""`` names the only input.

    Raises:
        BadInputs: A name that the model does not have.
    """
    known = [s.name for s in specs]
    named = dict(shapes)
    if "" in named and len(known) == 1:
        named[known[0]] = named.pop("")
    for name in named:
        if name not in known:
            raise BadInputs(f"the model has no input '{name}'", hint=f"its inputs: {', '.join(known)}")
    return tuple(TensorSpec(s.name, s.dtype, named[s.name], s.range) if s.name in named else s for s in specs)


def generate(
    specs: Sequence[TensorSpec],
    *,
    seed: int = 0,
    batches: Sequence[int] = DEFAULT_BATCHES,
    dynamic_batch: bool = True,
) -> list[dict[str, Array]]:
    """Seeded feeds for ``specs``: one per batch size, or :data:`STATIC_FEEDS` where the batch is fixed.

    A fixed leading size counts as an example when ``dynamic_batch`` says that it may vary: it is tried
    first, then the others of ``batches``.

    A dimension that may vary takes the batch size when it is the first of its tensor (or carries the same
    name as a first one), else :func:`onnxeq.types.example_size`; ``--shape`` overrides both.

    Raises:
        BadInputs: An input of unknown shape.
    """
    feeds = []
    batch_names: set[Dim] = {s.shape[0] for s in specs if s.shape and isinstance(s.shape[0], str) and s.shape[0] != "?"}
    sizes: list[int | None] = [None] * STATIC_FEEDS
    if dynamic_batch:
        leading = specs[0].shape[0] if specs and specs[0].shape else None
        given = [leading] if isinstance(leading, int) and not any(_leads_free(s) for s in specs) else []
        sizes = [*given, *(b for b in batches if b not in given)]
        # A size that was only an example varies together with the first input's.
        specs = [_free_batch(s, leading) if given else s for s in specs]
        batch_names |= {_BATCH}
    for index, size in enumerate(sizes):
        rng = np.random.default_rng([seed, index])
        shapes = {spec.name: _shape(spec, size, batch_names) for spec in specs}
        _check_sizes(specs, shapes, len(sizes))
        feeds.append({spec.name: _sample(spec, shapes[spec.name], rng) for spec in specs})
    return feeds


def _shape(spec: TensorSpec, batch: int | None, batch_names: set[Dim]) -> tuple[int, ...]:
    if spec.shape is None:
        raise BadInputs(
            f"nothing says the shape of input '{spec.name}'", hint=f"give it: --shape {spec.name}=1x3x224x224"
        )
    return tuple(_size(spec, d, axis, batch, batch_names) for axis, d in enumerate(spec.shape))


def _check_sizes(specs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]], feeds: int) -> None:
    """Makes sure that inputs can be drawn, in float64 and in :data:`_DRAWN` arrays of their size, before they are."""
    for spec in specs:
        taken = math.prod(shapes[spec.name]) * 8 * (feeds + _DRAWN)
        if taken > memory.total():
            sizes = "x".join(str(size) for size in shapes[spec.name])
            text = f"input '{spec.name}', {spec.dtype}[{sizes}], takes {memory.readable(taken)} to feed the model with"
            small = "x".join("1" for _ in shapes[spec.name])
            raise BadInputs(
                f"{text}, this machine has {memory.readable(memory.total())} of memory",
                hint=f"give a smaller shape: --shape {spec.name}={small}",
            )


_BATCH = "batch"


def _leads_free(spec: TensorSpec) -> bool:
    return bool(spec.shape) and spec.shape is not None and isinstance(spec.shape[0], str)


def _free_batch(spec: TensorSpec, leading: Dim | None) -> TensorSpec:
    if spec.shape and spec.shape[0] == leading:
        return replace(spec, shape=(_BATCH, *spec.shape[1:]))
    return spec


def _size(spec: TensorSpec, dim: Dim, axis: int, batch: int | None, batch_names: set[Dim]) -> int:
    if isinstance(dim, int):
        return dim
    if axis == 0 or dim in batch_names:
        return batch or 1
    return example_size(spec, dim)


def _sample(spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    dtype = dtype_of(spec.dtype)
    if spec.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        span = spec.range or ValueRange(0, 2)
        made = rng.integers(int(span.low), max(int(span.high), int(span.low) + 1), shape).astype(dtype)
        if _is_mask(spec) and made.ndim > 1:
            made[..., 0] = 1  # a row in which nothing counts has no meaning
        return made
    if dtype.kind in "US":
        return np.full(shape, "a", dtype=object)
    value = _texture(shape, rng)
    if spec.range is not None:
        middle, half = (spec.range.low + spec.range.high) / 2, (spec.range.high - spec.range.low) / 2
        # Two standard deviations reach the ends of the range; the rare rest is clipped, as pixels are.
        value = np.clip(middle + half * value / 2, spec.range.low, spec.range.high)
    return value.astype(dtype)


def _is_mask(spec: TensorSpec) -> bool:
    return "mask" in spec.name and (spec.range is None or (spec.range.low, spec.range.high) == (0, 2))


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Unit-scale values: noise everywhere, and a smooth pattern over the long axes of each sample."""
    value = rng.standard_normal(shape)
    if len(shape) < 3:
        return value
    smooth = np.zeros(shape)
    for _ in range(3):
        wave = np.ones((1,) * len(shape))
        for axis in range(1, len(shape)):
            size = [1] * len(shape)
            size[0], size[axis] = shape[0], shape[axis]
            grid = [1] * len(shape)
            grid[axis] = shape[axis]
            per_sample = (shape[0],) + (1,) * (len(shape) - 1)
            frequency = rng.uniform(0.2, 3.0, per_sample)
            phase = rng.uniform(0, 2 * np.pi, per_sample)
            t = np.linspace(0, 1, shape[axis]).reshape(grid)
            wave = wave * np.cos(2 * np.pi * frequency * t + phase)
        smooth = smooth + wave
    share = rng.uniform(0.3, 0.9, (shape[0],) + (1,) * (len(shape) - 1))
    offset = rng.normal(0, 0.4, (shape[0],) + (1,) * (len(shape) - 1))
    return share * smooth + (1 - share) * value + offset


def read(paths: Sequence[Path]) -> list[dict[str, Array]]:
    """Feeds from files: ``.npz`` (one feed), ``.npy`` (one unnamed input), ``.json`` (Polygraphy's saved inputs, one
    feed for each of its iterations), a folder of one of these, or an ONNX ``test_data_set_N`` folder (``input_0.pb``,
    ...; unnamed inputs take the model's order).

    Raises:
        BadInputs: A file that cannot be read, or that would run code (object arrays).
    """
    feeds: list[dict[str, Array]] = []
    for path in paths:
        if not path.exists():
            raise BadInputs(f"there is no inputs file {path}", hint="check the path given to --inputs")
        if path.is_dir():
            feeds += _read_folder(path)
        else:
            feeds += _read_file(path)
    return feeds


def _read_folder(folder: Path) -> list[dict[str, Array]]:
    protos = sorted(folder.glob("input_*.pb"), key=lambda p: int(re.sub(r"\D", "", p.stem) or 0))
    if protos:
        return [_read_protos(protos)]
    found = sorted(folder.iterdir())
    files = [p for p in found if p.suffix in (".npz", ".npy")] or [p for p in found if p.suffix == ".json"]
    if not files:
        hint = "put one file per feed into it, or for check pictures (.png, .jpg)"
        raise BadInputs(f"{folder} holds no .npz, .npy, .json or input_N.pb", hint=hint)
    return [feed for p in files for feed in _read_file(p)]


def _read_protos(paths: Sequence[Path]) -> dict[str, Array]:
    """One feed from an ONNX test data set; nothing but what lies in its own files is read."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

    from onnxeq.graph.trusted import check_tensor
    from onnxeq.referee.constants import tensor_array

    feed: dict[str, Array] = {}
    for i, path in enumerate(paths):
        if not path.is_file():
            raise BadInputs(f"{path} is no regular file")
        try:
            tensor = onnx.TensorProto.FromString(path.read_bytes())
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                raise BadInputs(f"{path} keeps its values in another file", hint="store them in the .pb itself")
            check_tensor(tensor)
            if not isinstance(tensor.name, str):  # protobuf hands over bytes that are no text
                raise BadInputs(f"{path} calls its tensor {tensor.name!r}, which is no text")
            feed[tensor.name or f"#{i}"] = tensor_array(tensor)
        except (DecodeError, UnusableModel, ValueError) as error:
            reason = error.message if isinstance(error, UnusableModel) else "it is truncated, or of another kind"
            raise BadInputs(f"{path} holds no tensor: {reason}", hint="write it with onnx.save_tensor") from None
    return feed


def _read_file(path: Path) -> list[dict[str, Array]]:
    if not path.is_file():
        raise BadInputs(f"{path} is no regular file", hint="write the inputs with numpy.savez")
    if path.suffix == ".json":
        return _read_polygraphy(path)
    try:
        array_files.check(path)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return [{"#0": loaded}]
        with loaded:
            return [{name: loaded[name] for name in loaded.files}]
    except (ValueError, OSError, EOFError) as error:
        raise BadInputs(
            f"{path} cannot be read as arrays: {' '.join(str(error).split())}",
            hint="write it with numpy.savez",
        ) from None
    except Exception as error:  # zipfile and zlib raise their own kinds for a damaged archive
        raise BadInputs(f"{path} is damaged: {error}", hint="write it again with numpy.savez") from None


def _read_polygraphy(path: Path) -> list[dict[str, Array]]:
    try:
        return polygraphy_files.read_inputs(path)
    except polygraphy_files.Damaged as error:
        hint = "polygraphy run MODEL --onnxrt --save-inputs FILE.json writes one"
        raise BadInputs(f"{path} is no file of Polygraphy's inputs: {error}", hint=hint) from None


def check_feed(feed: Feed, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The feed in the order of ``specs``, unnamed arrays (``#0``) named by position.

    Raises:
        BadInputs: A wrong name, shape or dtype, with what was given and what is allowed.
    """
    named = {}
    for key, value in feed.items():
        position = int(key[1:]) if re.fullmatch(r"#\d+", key) else None
        if position is not None and position < len(specs):
            named[specs[position].name] = value
        else:
            named[key] = value
    known = [s.name for s in specs]
    if extra := [n for n in named if n not in known]:
        raise BadInputs(
            f"the model has no input '{extra[0]}'",
            hint=f"its inputs: {', '.join(s.name + ' ' + s.text() for s in specs)}",
        )
    if absent := [s for s in specs if s.name not in named]:
        raise BadInputs(
            f"input '{absent[0].name}' ({absent[0].text()}) is not given", hint="add it to the --inputs file"
        )
    for spec in specs:
        _check_tensor(spec, named[spec.name])
    return {s.name: named[s.name] for s in specs}


def _check_tensor(spec: TensorSpec, value: Array) -> None:
    given = f"{dtype_name(value)}[{','.join(str(d) for d in value.shape)}]"
    if dtype_name(value) != spec.dtype:
        raise BadInputs(
            f"input '{spec.name}' is {given}, the model takes {spec.text()}",
            hint=f"convert it: array.astype('{spec.dtype}')",
        )
    if spec.shape is None:
        return
    fits = len(spec.shape) == value.ndim and all(
        isinstance(want, str) or want == got for want, got in zip(spec.shape, value.shape, strict=True)
    )
    if not fits:
        raise BadInputs(
            f"input '{spec.name}' is {given}, the model takes {spec.text()}",
            hint="reshape it, or convert the model with another --shape",
        )


_KEEP_SHAPE = ("Cast", "Identity", "DequantizeLinear")
_KEEP_VALUES = (*_KEEP_SHAPE, "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose")


def batch_size(feed: Feed) -> int:
    """The size that most inputs have in common on their first axis; 1 where they have none."""
    sizes = [a.shape[0] for a in feed.values() if a.ndim]
    return max(set(sizes), key=sizes.count) if sizes else 1


def adapt(feed: Feed, dtypes: Mapping[str, str]) -> dict[str, Array]:
    """The feed's arrays that a model takes, in the element types that it declares.

    A source in float32 and an artifact in float16 get the same values as far as their types hold them;
    the interface rung reports that the types differ.
    """
    return {
        name: feed[name] if kind in ("str", "string") or "(" in kind else feed[name].astype(dtype_of(kind), copy=False)
        for name, kind in dtypes.items()
        if name in feed
    }


def range_over(name: str, feeds: Sequence[Feed]) -> ValueRange | None:
    """Of an integer input: the values that the feeds have. Examples that an exporter is given stay within them."""
    values = [feed[name] for feed in feeds if name in feed and feed[name].dtype.kind in "iu" and feed[name].size]
    return ValueRange(float(min(v.min() for v in values)), float(max(v.max() for v in values)) + 1) if values else None


def index_ranges(model: onnx.ModelProto) -> dict[str, ValueRange]:
    """For each integer graph input that indexes a stored table: the rows that it may reach.

    Follows the input through casts and reshapes to a ``Gather`` whose data is a stored table, itself perhaps cast or
    dequantised.
    """
    rows = {t.name: tuple(t.dims) for t in model.graph.initializer}
    origin = {i.name: i.name for i in model.graph.input}
    ranges: dict[str, ValueRange] = {}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            rows[node.output[0]] = tuple(node.attribute[0].t.dims)
        if node.op_type in _KEEP_VALUES and node.input:
            if node.input[0] in origin:
                origin[node.output[0]] = origin[node.input[0]]
            if node.input[0] in rows and node.op_type in _KEEP_SHAPE:
                rows[node.output[0]] = rows[node.input[0]]
        if node.op_type == "Gather" and node.input[0] in rows and node.input[1] in origin and rows[node.input[0]]:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            name = origin[node.input[1]]
            high = float(rows[node.input[0]][axis])
            ranges[name] = ValueRange(0, min(high, ranges[name].high if name in ranges else high))
    return ranges
