"""What a stored TensorFlow program would do besides computing, told before anything of it runs.

A graph holds no Python code, but operators that read and write any file, call back into a process, or reach the
network. Loading already runs some of them (the initialisers of tables). So all that can run is looked through first:

1. A SavedModel of TensorFlow 2: the functions that the loader makes objects of, and all that they call. The loader
   reads the weights by itself; the functions that save and restore are not among them.
2. Any other: the whole graph, less the nodes that only saving needs. Those that restore may read checkpoints.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from onnxeq.errors import UnusableModel
from onnxeq_converters.from_tensorflow.framework import require

__all__ = ["reaches_out", "reaching_out", "refuse_untrusted"]

_REACHING = re.compile(
    r"File|PyFunc|Reader|Record|Dataset|Summary|Checkpoint|Rpc|Remote|Sql|LMDB|^_?(Send|Recv|HostSend|HostRecv)$"
    r"|DumpTensor|ImmutableConst|Skipgram|UnigramCandidate|VocabRemapping|(De|En)codeProto|CalibrationStatistics"
    r"|^(Save|Restore|LoadAndRemap|Debug|DistributedSave|XlaHost|Collective)"
)
"""Names of operators that reach outside."""

_HARMLESS = frozenset(("InitializeTableFromTextFile", "InitializeTableFromTextFileV2"))
"""Tables of words come from a file of the model; a file is read, and nothing can leave."""

_RESTORING = frozenset("Restore RestoreV2 RestoreSlice ShardedFilename".split())
_SAVING = frozenset("Save SaveV2 SaveSlices MergeV2Checkpoints ShardedFilename".split())


def refuse_untrusted(name: str, meta_graph: Any, *, objects: bool, trust: bool) -> None:
    """Refuses a program that reaches outside of itself, unless it is trusted.

    Args:
        name: What a message calls it.
        meta_graph: Its ``MetaGraphDef``.
        objects: Whether it is loaded as objects with functions; as one graph otherwise.
        trust: Whether the user trusts it.

    Raises:
        onnxeq.errors.UnusableModel: Naming the operators.
    """
    found = () if trust else reaching_out(meta_graph, objects=objects)
    if found:
        raise UnusableModel(
            f"{name} holds {', '.join(found)}, which reach files, code or machines outside of the model",
            hint="if you trust it: --trust",
        )


def reaching_out(meta_graph: Any, *, objects: bool) -> tuple[str, ...]:
    """The types of the operators that can run and reach outside, in alphabetical order."""
    library = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    if objects:
        bodies = [library[name] for name in _functions(meta_graph.object_graph_def) if name in library]
        return _found((node for body in bodies for node in body.node_def), library)
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    saver = meta_graph.saver_def
    saving = _behind([saver.save_tensor_name], nodes)
    restoring = _behind([saver.restore_op_name], nodes)
    used = _behind(_named(meta_graph), nodes)
    excused = {name for name in restoring - used if nodes[name].op in _RESTORING}
    excused |= {name for name in saving - used - restoring if nodes[name].op in _SAVING}
    running = nodes.values()
    return _found((n for n in running if n.name not in excused), library)


def _functions(graph: Any) -> set[str]:
    """The functions that the loader makes objects of: whatever names one, not only the list of them."""
    named = set(graph.concrete_functions)
    for node in graph.nodes:
        named.update(node.function.concrete_functions)
        named.add(node.bare_concrete_function.concrete_function_name)
        named.add(node.captured_tensor.concrete_function)
    return named


def _found(nodes: Iterable[Any], library: dict[str, Any]) -> tuple[str, ...]:
    """Operators that reach outside among nodes and everything that they call."""
    found: set[str] = set()
    seen: set[str] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if _reaches(node):
            found.add(str(node.op))
        for name in _called(node):
            if name in library and name not in seen:
                seen.add(name)
                stack.extend(library[name].node_def)
    return tuple(sorted(found))


def reaches_out(op: str) -> bool:
    """Whether operators of this type reach outside of the program."""
    return op not in _HARMLESS and _REACHING.search(op) is not None


def _reaches(node: Any) -> bool:
    if node.op == "PrintV2":  # it can print into a file
        return bool(node.attr["output_stream"].s.startswith(b"file:"))
    return reaches_out(str(node.op))


def _called(node: Any) -> Iterator[str]:
    """Functions that a node calls; in graphs of TensorFlow 1 the operator itself may be one."""
    yield node.op
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (f.name for f in value.list.func)


def _named(meta_graph: Any) -> Iterator[str]:
    """The tensors and nodes that signatures and collections (initialisers among them) name."""
    for signature in meta_graph.signature_def.values():
        for info in (*signature.inputs.values(), *signature.outputs.values()):
            yield info.name
            yield from (info.coo_sparse.values_tensor_name, info.coo_sparse.indices_tensor_name)
            yield info.coo_sparse.dense_shape_tensor_name
            yield from (part.name for part in info.composite_tensor.components)
    kind = require("tensorflow.core.framework.variable_pb2").VariableDef
    for collection in meta_graph.collection_def.values():
        yield from collection.node_list.value
        for stored in collection.bytes_list.value:
            with contextlib.suppress(Exception):  # another kind of record, of which nothing is fetched
                variable = kind.FromString(stored)
                yield from (variable.variable_name, variable.initializer_name, variable.snapshot_name)


def _behind(names: Iterable[str], nodes: dict[str, Any]) -> set[str]:
    """The nodes that some are computed from, control dependencies included."""
    seen: set[str] = set()
    stack = list(names)
    while stack:
        name = stack.pop().lstrip("^").partition(":")[0]
        if name in nodes and name not in seen:
            seen.add(name)
            stack.extend(nodes[name].input)
    return seen
