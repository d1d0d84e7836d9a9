"""The program behind an export, run node by node: its values under the names that they have in the ONNX file.

``torch.onnx.export(dynamo=True)`` translates a graph of aten operators (torch.fx) node by node and calls each result
after its node. That graph is kept from the capture and interpreted here: in float64 with the scalars that ONNX holds
(:mod:`.float64`), or in float32.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree

from onnxeq.errors import CannotRun
from onnxeq.protocols import NativeValue

from .float64 import Float64Mode
from .halves import held
from .inputs import to_array

__all__ = ["Captured", "arguments_of", "values"]

aten = torch.ops.aten


@dataclass(frozen=True)
class Captured:
    """The graph that was translated, and what it shares with the ONNX file.

    Attributes:
        program: The decomposed ``ExportedProgram``.
        renamed: Node name -> ONNX value name, where they are not the same.
    """

    program: Any
    renamed: Mapping[str, str]


def values(
    captured: Captured, args: tuple[Any, ...], kwargs: dict[str, Any], *, double: bool, names: Collection[str] | None
) -> Iterator[NativeValue]:
    """Every tensor that the program computes, in order; see :meth:`onnxeq.protocols.Native.layers`.

    Args:
        captured: The program.
        args: As the model itself is called with.
        kwargs: As the model itself is called with.
        double: Whether to compute in float64.
        names: ONNX value names; ``None`` for all.

    Raises:
        CannotRun: An operator failed; names it.
    """
    wanted = None if names is None else set(names)
    mode = Float64Mode() if double else None
    graph_module = captured.program.graph_module
    interpreter = torch.fx.Interpreter(graph_module, garbage_collect_values=False)
    last_use = _last_uses(graph_module.graph)
    environment = interpreter.env
    given = _inputs(captured.program, args, kwargs, double=double)
    for node in graph_module.graph.nodes:
        if node.op == "placeholder":
            environment[node] = given[node.name]
            continue
        if node.op == "output":
            break
        environment[node] = _run(interpreter, node, mode)
        for name, tensor in _named(node, environment[node], captured):
            if wanted is None or name in wanted:
                yield _described(name, tensor, node, captured)
        for dead in last_use.get(node, ()):
            environment.pop(dead, None)


def _run(interpreter: torch.fx.Interpreter, node: torch.fx.Node, mode: Float64Mode | None) -> Any:
    unrounded = node.target is aten.scaled_dot_product_attention.default and node.kwargs.get("scale") is None
    try:
        with torch.no_grad(), contextlib.ExitStack() as stack:
            if mode is not None:
                stack.enter_context(mode)
                if unrounded:  # rule 8 of float64
                    stack.enter_context(mode.unrounded_scalars())
            return interpreter.run_node(node)
    except Exception as error:  # whatever a kernel raises is said with its node
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CannotRun(
            f"the native program cannot be run step by step: {node.name} ({node.target}): {reason}"
        ) from error


def _inputs(program: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, double: bool) -> dict[str, Any]:
    """A value for each placeholder: weights and constants from the program, the rest from the call, in order."""
    kinds = torch.export.graph_signature.InputKind
    flat = iter(_pytree.tree_leaves((args, kwargs)))
    held = {**program.constants, **program.state_dict}
    found: dict[str, Any] = {}
    for spec in program.graph_signature.input_specs:
        value = next(flat, None) if spec.kind is kinds.USER_INPUT else held.get(spec.target)
        if double and isinstance(value, torch.Tensor) and value.dtype in (torch.float32, torch.complex64):
            value = value.to(torch.float64 if value.dtype is torch.float32 else torch.complex128)
        found[spec.arg.name] = value.detach() if isinstance(value, torch.Tensor) else value
    return found


def _last_uses(graph: torch.fx.Graph) -> dict[torch.fx.Node, list[torch.fx.Node]]:
    """Node -> what nobody reads after it."""
    seen: set[torch.fx.Node] = set()
    found: dict[torch.fx.Node, list[torch.fx.Node]] = {}
    for node in reversed(graph.nodes):
        for read in (node, *node.all_input_nodes):
            if read not in seen:
                seen.add(read)
                found.setdefault(node, []).append(read)
    return found


def _named(node: torch.fx.Node, value: Any, captured: Captured) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a node with their ONNX names; a part that nobody takes out of a tuple is ``node__1``."""
    if isinstance(value, torch.Tensor):
        yield captured.renamed.get(node.name, node.name), value
    elif isinstance(value, (tuple, list)) and value:
        taken = {user.args[1] for user in node.users if _is_getitem(user)}
        for index, part in enumerate(value):
            if isinstance(part, torch.Tensor) and index not in taken:
                yield f"{node.name}__{index}", part


def _is_getitem(node: torch.fx.Node) -> bool:
    return getattr(node.target, "__name__", "") == "getitem" and len(node.args) == 2


def _described(name: str, tensor: torch.Tensor, node: torch.fx.Node, captured: Captured) -> NativeValue:
    origin = node.args[0] if _is_getitem(node) and isinstance(node.args[0], torch.fx.Node) else node
    arguments, explicit = arguments_of(origin.target, origin.args, origin.kwargs, captured.renamed)
    return NativeValue(
        name=name,
        array=to_array(held(tensor)),
        op=str(origin.target),
        arguments=arguments,
        explicit=explicit,
        native=_module_path(origin),
        source=_source_line(origin),
    )


def arguments_of(
    target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], renamed: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """An operator's arguments by name as text, and which of them are not its defaults."""
    schema = getattr(target, "_schema", None)
    declared = list(schema.arguments) if schema is not None else []
    found: dict[str, str] = {}
    explicit = []
    for position, value in enumerate(args):
        name = declared[position].name if position < len(declared) else f"#{position}"
        found[name] = _text(value, renamed)
        if position < len(declared) and _differs(declared[position], value):
            explicit.append(name)
    defaults = {argument.name: argument for argument in declared}
    for name, value in kwargs.items():
        found[name] = _text(value, renamed)
        if name in defaults and _differs(defaults[name], value):
            explicit.append(name)
    return found, tuple(explicit)


def _differs(declared: Any, value: Any) -> bool:
    if any(isinstance(leaf, (torch.fx.Node, torch.Tensor)) for leaf in _pytree.tree_leaves(value)):
        return False
    return not (declared.has_default_value() and declared.default_value == value)


def _text(value: Any, renamed: Mapping[str, str]) -> str:
    if isinstance(value, torch.fx.Node):
        return renamed.get(value.name, value.name)
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_text(v, renamed) for v in value)}]"
    return repr(value)


def _module_path(node: torch.fx.Node) -> str:
    """The innermost module around a node, ``layer1.0.conv2``."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for path, kind in stack.values() if "_empty_nn_module_stack" not in str(kind)]
    return paths[-1] if paths else ""


def _source_line(node: torch.fx.Node) -> str:
    """Where in the user's program a node comes from: the outermost frame that torch noted."""
    lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines() if line.strip()]
    for place, code in itertools.pairwise(lines):
        if place.startswith("File ") and "torch/fx/" not in place and not code.startswith("File "):
            file, _, rest = place.removeprefix("File ").partition(",")
            number = rest.strip().removeprefix("line ").partition(",")[0]
            return f"{file.strip(chr(34)).rpartition('/')[2]}:{number}: {code}"
    return ""
