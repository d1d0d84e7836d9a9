"""Control flow: If, Loop, Scan and SequenceMap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from onnxeq.referee.ops.tensors import held_type, normal_axis
from onnxeq.referee.registry import Call, Value, op

__all__: list[str] = []


def _bind(graph: onnx.GraphProto, values: Sequence[Value]) -> dict[str, Value]:
    return {formal.name: value for formal, value in zip(graph.input, values, strict=False)}


def _empty_stack(output: onnx.ValueInfoProto, exact: bool) -> Any:
    """What zero iterations stack to: no elements, with the body's declared type and sizes (0 if unknown)."""
    tensor = output.type.tensor_type
    sizes = [int(d.dim_value) for d in tensor.shape.dim]
    return np.zeros([0, *sizes], dtype=held_type(tensor.elem_type or 1, exact))


@op("If", witnesses=("suite", "onnxruntime"))
def run_if(call: Call, condition: Any) -> tuple[Value, ...]:
    """The outputs of the branch that the condition chooses."""
    branch = call.get("then_branch" if bool(np.asarray(condition).reshape(-1)[0]) else "else_branch")
    return tuple(call.run_graph(branch, {}))


@op("Loop", witnesses=("suite", "onnxruntime"))
def loop(call: Call, trips: Any = None, condition: Any = None, *state: Value) -> tuple[Value, ...]:
    """Runs the body while the condition holds, at most ``trips`` times; stacks the scan outputs."""
    body = call.get("body")
    limit = None if trips is None else int(np.asarray(trips).reshape(-1)[0])
    going = condition is None or bool(np.asarray(condition).reshape(-1)[0])
    carried = list(state)
    stacks: list[list[Value]] = [[] for _ in range(len(body.output) - 1 - len(carried))]
    done = 0
    while going and (limit is None or done < limit):
        out = call.run_graph(body, _bind(body, [np.array(done, np.int64), np.array(True), *carried]))
        # without a condition input the body's own condition still ends the loop
        going = bool(np.asarray(out[0]).reshape(-1)[0])
        carried = list(out[1 : 1 + len(carried)])
        for stack, item in zip(stacks, out[1 + len(carried) :], strict=True):
            stack.append(item)
        done += 1
    formals = body.output[1 + len(carried) :]
    scans = [np.stack(s) if s else _empty_stack(o, call.exact) for s, o in zip(stacks, formals, strict=True)]
    return (*carried, *scans)


def _scan(
    call: Call, state: list[Value], inputs: list[Any], axes: list[int], reverse: list[int], length: int
) -> tuple[list[Value], list[list[Any]]]:
    """The final states, and the elements of each scan output in order of computation."""
    body = call.get("body")
    stacks: list[list[Any]] = [[] for _ in range(len(body.output) - len(state))]
    for step in range(length):
        picks = [length - 1 - step if back else step for back in reverse]
        items = [np.take(x, i, axis=a) for x, i, a in zip(inputs, picks, axes, strict=True)]
        out = call.run_graph(body, _bind(body, [*state, *items]))
        state = list(out[: len(state)])
        for stack, item in zip(stacks, out[len(state) :], strict=True):
            stack.append(item)
    return state, stacks


@op("Scan", since=9, witnesses=("suite", "onnxruntime"))
def scan(call: Call, *values: Any) -> tuple[Value, ...]:
    """Runs the body over slices of the scan inputs; stacks its scan outputs along their axes."""
    body, count = call.get("body"), call.get("num_scan_inputs")
    state, inputs = list(values[: len(values) - count]), list(values[len(values) - count :])
    axes = call.get("scan_input_axes") or [0] * count
    axes = [normal_axis(a, x.ndim) for a, x in zip(axes, inputs, strict=True)]
    reverse = call.get("scan_input_directions") or [0] * count
    length = inputs[0].shape[axes[0]]
    final, stacks = _scan(call, state, inputs, axes, list(reverse), length)
    out_axes = call.get("scan_output_axes") or [0] * len(stacks)
    out_reverse = call.get("scan_output_directions") or [0] * len(stacks)
    scans = []
    formals = body.output[len(state) :]
    for stack, axis, back, formal in zip(stacks, out_axes, out_reverse, formals, strict=True):
        if not stack:
            scans.append(np.moveaxis(_empty_stack(formal, call.exact), 0, axis))
            continue
        ordered = stack[::-1] if back else stack
        scans.append(np.stack(ordered, axis=axis))
    return (*final, *scans)


@op("Scan", until=8, witnesses=("suite", "onnxruntime"))
def scan_batched(call: Call, sequence_lens: Any, *values: Any) -> tuple[Value, ...]:
    """The first form: axis 0 is the batch, axis 1 the sequence, each sample has its own length.

    Scan outputs past a sample's length are undefined by the specification; they are 0 here.
    """
    count = call.get("num_scan_inputs")
    state, inputs = list(values[: len(values) - count]), list(values[len(values) - count :])
    batch, longest = inputs[0].shape[:2]
    reverse = list(call.get("directions") or [0] * count)
    finals, scans = [], []
    for b in range(batch):
        length = longest if sequence_lens is None else int(sequence_lens.reshape(-1)[b])
        parts = [x[b][:length] for x in inputs]
        final, stacks = _scan(call, [s[b] for s in state], parts, [0] * count, reverse, length)
        finals.append(final)
        padded = []
        for stack in stacks:
            whole = np.zeros((longest, *stack[0].shape), dtype=stack[0].dtype)
            whole[: len(stack)] = stack
            padded.append(whole)
        scans.append(padded)
    out_states = [np.stack(column) for column in zip(*finals, strict=True)] if state else []
    return (*out_states, *(np.stack(column) for column in zip(*scans, strict=True)))


@op("SequenceMap", witnesses=("suite", "onnxruntime"))
def sequence_map(call: Call, sequence: list[Any], *others: Value) -> tuple[list[Any], ...]:
    """Runs the body on each item of the first sequence; the others give their items, or themselves."""
    body = call.get("body")
    results: list[list[Any]] = [[] for _ in body.output]
    for i, item in enumerate(sequence):
        extra = [o[i] if isinstance(o, list) else o for o in others]
        for collected, value in zip(results, call.run_graph(body, _bind(body, [item, *extra])), strict=True):
            collected.append(value)
    return tuple(results)
