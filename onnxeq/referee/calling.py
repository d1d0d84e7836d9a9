"""One node: its implementation called, its outputs shown to the hook, its failure told."""

from __future__ import annotations

import numpy as np

from onnxeq.errors import BadInputs, CannotRun, OnnxeqError, UnsupportedOperator
from onnxeq.referee.frames import Frame, NodeInfo
from onnxeq.referee.plan import Step
from onnxeq.referee.registry import Call, Value

__all__ = ["invoke", "unsupported", "watched"]


def watched(
    frame: Frame,
    step: Step,
    inputs: list[Value],
    input_dtypes: tuple[str, ...],
    outputs: list[Value],
    dtypes: tuple[str, ...],
    exact: bool,
    composite: bool,
    constant: bool = False,
) -> list[Value]:
    """The outputs after the hook, if there is one, has seen or replaced them."""
    if frame.run.hook is None:
        return outputs
    info = NodeInfo(step.node, step.opset, exact, dtypes, frame.path, composite, input_dtypes, constant)
    replaced = list(frame.run.hook.node(info, inputs, outputs))
    if len(replaced) != len(outputs):
        raise CannotRun(f"the hook gave {len(replaced)} outputs for node {step.label}, not {len(outputs)}")
    return replaced


def unsupported(frame: Frame, step: Step) -> str:
    """What to say of a node without an implementation."""
    where = "/".join((*frame.path, step.label))
    return f"no validated float64 semantics for {step.operator_name} at node {where}"


def invoke(frame: Frame, step: Step, call: Call, values: list[Value]) -> list[Value]:
    """What the implementation gives for the outputs that the node declares.

    Raises:
        BadInputs: Its inputs are none that the operator takes; names the node and their shapes.
        CannotRun: It failed, or gives fewer outputs; names the same.
        UnsupportedOperator: There is none.
    """
    if step.operator is None:
        raise UnsupportedOperator(unsupported(frame, step))
    where = "/".join((*frame.path, step.label))
    shapes = [list(getattr(v, "shape", ())) if v is not None else "absent" for v in values]
    text = ", ".join(f"{n or '-'} {s}" for n, s in zip(step.node.input, shapes, strict=True)) or "none"
    failed = f"node {where}: {step.operator_name} failed on inputs {text}"
    try:
        given = step.operator.run(call, *values)
    except BadInputs as error:
        raise BadInputs(f"{failed}: {error.message}", hint=error.hint) from error
    except (OnnxeqError, MemoryError):
        raise
    except Exception as error:  # whatever an implementation raises is said with its node and shapes
        reason = " ".join(str(error).split()) or "no reason given"
        raise CannotRun(f"{failed}: {type(error).__name__}: {reason}") from error
    results = list(given) if isinstance(given, tuple) else [given]
    needed = max((i + 1 for i, name in enumerate(step.node.output) if name), default=0)
    if len(results) < needed:
        raise CannotRun(f"node {where}: {step.operator_name} gives {len(results)} outputs, {needed} are declared")
    results = results[: len(step.node.output)]
    return [v if isinstance(v, list) or v is None else np.asarray(v) for v in results]
