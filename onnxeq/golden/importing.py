"""``onnxeq golden import``: arrays that somebody has become a golden, and today's run says how well they agree.

Who made them, and of which version, is not known, so that they have no provenance and no birth of their own. The model
is run now: it gives the error bar, the digests of its layers, and executions to hold the arrays against.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from onnxeq import inputs as inputs_
from onnxeq import polygraphy_files, saved_traces
from onnxeq.arrays import dtype_name
from onnxeq.envs.environment import find
from onnxeq.errors import OnnxeqError, UnusableModel, UsageError
from onnxeq.golden import store
from onnxeq.golden.building import BAR, build, condensed_trace, distance, imported_outputs, unit_trace
from onnxeq.golden.condense import digest
from onnxeq.golden.identity import describe
from onnxeq.golden.measured import Measured, measure
from onnxeq.golden.recording import default_name, in_folder
from onnxeq.golden.today import Subject, Today, check_provider, run_all
from onnxeq.golden.values import Agreement, Born, Golden, How, Origin, Role
from onnxeq.inputs import DEFAULT_BATCHES
from onnxeq.jobs import Jobs, Listener
from onnxeq.sides import Request
from onnxeq.types import Array, Feed

__all__ = ["import_golden", "read_arrays"]


def import_golden(
    files: Sequence[str | os.PathLike[str]],
    model: str,
    name: str = "",
    *,
    folder: str | os.PathLike[str] = store.DEFAULT_FOLDER,
    inputs: Sequence[str | os.PathLike[str] | Feed] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    batches: Sequence[int] = DEFAULT_BATCHES,
    seed: int = 0,
    provider: str = "cpu",
    trust: bool = False,
    env: str = "",
    timeout_s: float | None = None,
    listener: Listener | None = None,
) -> Golden:
    """Makes a golden of saved outputs; see :func:`onnxeq.golden.record` for the other arguments.

    Args:
        files: One for each feed: ``.npz`` (or ``.npy`` of an only output), Polygraphy's JSON of outputs, or an ONNX
            ``test_data_set_N`` folder, which holds its inputs, too.
        model: The reference of what made them.
        name: Of the golden.
        folder: Where goldens lie.
        inputs: What the outputs were made from.
        shapes: See there.
        batches: See there.
        seed: Of generated inputs, where the outputs were made from such.
        provider: ``cpu`` or ``cuda``.
        trust: Whether code stored in model files may run.
        env: Where to run.
        timeout_s: Limit for each job in seconds.
        listener: Told each job's label and step.

    Raises:
        onnxeq.errors.UsageError: The files hold no outputs, or other ones than the model gives.
        onnxeq.errors.CannotRun: The model cannot be run.
    """
    root = Path(folder)
    name = store.check_name(name or default_name(model))
    read = [read_arrays(Path(file)) for file in files]
    beside = [feed for _, feed in read if feed]
    if beside and inputs:
        raise UsageError("the files hold their own inputs", hint="leave --inputs out")
    request = Request.of(inputs or beside, shapes, batches=batches, seed=seed, trust=trust)
    sizes = {key: "x".join(map(str, shape)) or "scalar" for key, shape in (shapes or {}).items()}
    how = How(seed, tuple(batches), sizes, provider=check_provider(provider))
    given = tuple(Path(p) for p in (inputs or (files if beside else ())) if isinstance(p, (str, os.PathLike)))
    root.mkdir(parents=True, exist_ok=True)
    with store.locked(root, name, wait=False):
        if store.exists(root, name):
            raise UsageError(f"the golden '{name}' is there already", hint="give another --name")
        with Jobs(
            timeout_s=timeout_s, listener=listener, environment=find(env) if env else None, use_cache=False
        ) as jobs:
            today = run_all(jobs, [Subject(name, model, how, request, root, given)])[name]
            if isinstance(today, OnnxeqError):
                raise today
            trace = _matched([outputs for outputs, _ in read], today)
            identity, marks = describe(today.path, today.native_sha256)
            measured = measure(jobs, today)
        made, arrays = build(today, measured, identity, marks, model=in_folder(model, root))
        golden, kept = _imported(made, arrays, trace, today, measured, _said(files))
        return store.commit(root, golden, kept, fresh=True)


def _imported(
    golden: Golden, arrays: Mapping[str, Array], trace: Sequence[Feed], today: Today, measured: Measured, said: str
) -> tuple[Golden, dict[str, Array]]:
    """The golden of a model as it runs today, with the imported arrays in the place of today's own."""
    gone = tuple(f"{role.value}/" for role in today.executions)
    kept = {k: v for k, v in arrays.items() if not k.startswith(gone)}
    kept |= {f"imported/{i}/{n}": v for i, f in enumerate(condensed_trace(trace)) for n, v in f.items()}
    unit = unit_trace(measured.rounding, measured.trace) if measured.trace else []
    executions = {"referee/f64": measured.trace, **{r.name: r.trace for r in today.executions.values()}}
    born = Born(Role.IMPORTED, said, tuple(digest(trace[o.feed][o.name]) for o in golden.outputs))
    made = replace(
        golden,
        origin=Origin.IMPORTED,
        executions=(born, *(b for b in golden.executions if b.role is Role.REFEREE)),
        outputs=imported_outputs(golden.outputs, trace),
        agreement=tuple(_held(trace, n, t, unit) for n, t in executions.items() if t),
        bar=replace(BAR, missing=measured.missing),
    )
    return made, kept


def _said(files: Sequence[str | os.PathLike[str]]) -> str:
    first = Path(files[0]).name
    return first if len(files) == 1 else f"{first} and {len(files) - 1} more"


def _held(trace: Sequence[Feed], name: str, theirs: Sequence[Feed], unit: Sequence[Feed]) -> Agreement:
    apart = distance(condensed_trace(theirs), condensed_trace(trace), unit)
    return Agreement(name, "imported", float(f"{apart.ratio:.3g}"), float(f"{apart.max_abs:.3g}"))


def _matched(read: Sequence[Feed], today: Today) -> list[dict[str, Array]]:
    """The arrays under the model's names, in its order."""
    primary = next(iter(today.executions.values())).trace
    if len(read) != len(primary):
        said = f"{len(read)} sets of outputs are given, the model was run on {len(primary)} inputs"
        raise UsageError(said, hint="give as many --inputs as files of outputs, or --batch 1 for generated ones")
    found = []
    for ours, theirs in zip(read, primary, strict=True):
        order = list(theirs)
        named = {order[int(k[1:])] if k.startswith("#") and int(k[1:]) < len(order) else k: v for k, v in ours.items()}
        if absent := [n for n in order if n not in named]:
            hint = f"the files hold {', '.join(named)}"
            raise UsageError(f"the model's output '{absent[0]}' is not among the arrays", hint=hint)
        for n in order:
            now, given = (f"{dtype_name(v)}{list(v.shape)}" for v in (theirs[n], named[n]))
            if now != given:
                raise UsageError(f"output '{n}' is {now}, the arrays have {given}", hint="check --inputs and --shape")
        found.append({n: named[n] for n in order})
    return found


def read_arrays(path: Path) -> tuple[dict[str, Array], Feed]:
    """Outputs of a file by name (``#0``, ... where it has none), and the inputs that lie beside them.

    Raises:
        UsageError: There is no such file, or it holds no arrays.
    """
    if not path.exists():
        raise UsageError(f"there is no file {path}", hint="give an .npz, a .json of Polygraphy, or a test_data_set_N")
    if path.is_dir():
        if not list(path.glob("output_*.pb")):
            raise UnusableModel(f"{path} holds no output_N.pb", hint="an ONNX test_data_set_N does")
        outputs = saved_traces.data_set_outputs(path)
        return outputs, inputs_.read([path])[0] if list(path.glob("input_*.pb")) else {}
    if path.suffix == ".json":
        try:
            return dict(polygraphy_files.read_outputs(path)[1]), {}
        except polygraphy_files.Damaged as error:
            hint = "polygraphy run MODEL --onnxrt --save-outputs FILE.json writes one"
            raise UnusableModel(f"{path} is no file of Polygraphy's outputs: {error}", hint=hint) from None
    return inputs_.read([path])[0], {}
