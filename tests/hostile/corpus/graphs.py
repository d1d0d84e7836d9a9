"""ONNX graphs that cannot be, or that are far larger than their files."""

from __future__ import annotations

from pathlib import Path

from onnx import FunctionProto, TensorProto
from onnx import helper as h

from corpus.case import Shelf
from corpus.models import graph, model, record, tensor, value, write

__all__ = ["CASES"]

_shelf = Shelf()
CASES = _shelf.cases


@_shelf.add("cycle")
def cycle(folder: Path) -> list[str]:
    nodes = [
        h.make_node("Add", ["x", "b"], ["a"]),
        h.make_node("Relu", ["a"], ["b"]),
        h.make_node("Relu", ["b"], ["y"]),
    ]
    return write(folder, model(graph(nodes)))


@_shelf.add("cycle")
def long_cycle(folder: Path) -> list[str]:
    """Fifty thousand nodes in a ring: whoever follows it by recursion falls off the stack."""
    count = 50_000
    nodes = [h.make_node("Relu", [f"v{(i - 1) % count}"], [f"v{i}"]) for i in range(count)]
    return write(folder, model(graph([*nodes, h.make_node("Add", ["x", "v0"], ["y"])])))


@_shelf.add("is defined twice")
def duplicate_values(folder: Path) -> list[str]:
    nodes = [h.make_node("Relu", ["x"], ["y"]), h.make_node("Neg", ["x"], ["y"])]
    return write(folder, model(graph(nodes)))


@_shelf.add("is defined twice")
def duplicate_initializers(folder: Path) -> list[str]:
    twice = [tensor("w", [2, 3], bytes(24)), tensor("w", [2, 3], b"\1" * 24)]
    return write(folder, model(graph([h.make_node("Add", ["x", "w"], ["y"])], initializers=twice)))


@_shelf.add("is defined twice")
def duplicate_inputs(folder: Path) -> list[str]:
    return write(folder, model(graph([h.make_node("Relu", ["x"], ["y"])], inputs=[value("x"), value("x", [4])])))


@_shelf.add("never defined")
def undefined_value(folder: Path) -> list[str]:
    return write(folder, model(graph([h.make_node("Add", ["x", "ghost"], ["y"])])))


def _nested(levels: int) -> bytes:
    """The bytes of a model whose If holds an If holds an If: no library would write it."""
    branch = model(graph([h.make_node("Identity", ["x"], ["y"])])).graph
    branch.ClearField("input")
    inner = branch.SerializeToString()
    output = record(12, value("y").SerializeToString())
    name, condition, result, kind = record(1, b"then_branch"), record(1, b"c"), record(2, b"y"), record(4, b"If")
    for _ in range(levels):
        then = record(5, name + record(6, inner) + b"\xa0\x01\x05")
        other = record(5, record(1, b"else_branch") + record(6, branch.SerializeToString()) + b"\xa0\x01\x05")
        inner = record(1, condition + result + kind + then + other) + record(2, b"g") + output
    inputs = record(11, value("x").SerializeToString()) + record(
        11, value("c", [], TensorProto.BOOL).SerializeToString()
    )
    return b"\x08\x08" + record(7, inner + inputs) + record(8, b"\x10\x11")


@_shelf.add("nested")
def nested_ten_thousand_deep(folder: Path) -> list[str]:
    (folder / "model.onnx").write_bytes(_nested(10_000))
    return [str(folder / "model.onnx")]


@_shelf.add("nested")
def nested_type_ten_thousand_deep(folder: Path) -> list[str]:
    """A sequence of a sequence of ... as the type of an output."""
    kind = record(1, b"\x08\x01")
    for _ in range(10_000):
        kind = record(4, record(1, kind))
    body = graph([h.make_node("Relu", ["x"], ["y"])])
    data = body.SerializeToString() + record(12, record(1, b"z") + record(2, kind))
    (folder / "model.onnx").write_bytes(b"\x08\x08" + record(7, data) + record(8, b"\x10\x11"))
    return [str(folder / "model.onnx")]


def _calls(name: str, *callees: str) -> FunctionProto:
    nodes, last = [], "a"
    for i, callee in enumerate(callees):
        nodes.append(h.make_node(callee, [last], [f"t{i}"], domain="own"))
        last = f"t{i}"
    nodes.append(h.make_node("Identity", [last], ["b"]))
    return h.make_function("own", name, ["a"], ["b"], nodes, [h.make_opsetid("", 17), h.make_opsetid("own", 1)])


@_shelf.add("calls itself")
def function_calls_itself(folder: Path) -> list[str]:
    body = graph([h.make_node("F", ["x"], ["y"], domain="own")])
    return write(folder, model(body, [_calls("F", "F")]))


@_shelf.add("calls itself")
def functions_call_each_other(folder: Path) -> list[str]:
    body = graph([h.make_node("F", ["x"], ["y"], domain="own")])
    return write(folder, model(body, [_calls("F", "G"), _calls("G", "F")]))


@_shelf.add("nodes when its functions are written out")
def billion_laughs(folder: Path) -> list[str]:
    """Forty functions, each calling the next twice: 2^40 nodes from a few kilobytes."""
    functions = [_calls(f"F{i}", f"F{i + 1}", f"F{i + 1}") for i in range(40)] + [_calls("F40")]
    return write(folder, model(graph([h.make_node("F0", ["x"], ["y"], domain="own")]), functions))


@_shelf.add("nested")
def deep_chain_of_functions(folder: Path) -> list[str]:
    functions = [_calls(f"F{i}", f"F{i + 1}") for i in range(5000)] + [_calls("F5000")]
    return write(folder, model(graph([h.make_node("F0", ["x"], ["y"], domain="own")]), functions))


@_shelf.add("defined twice")
def duplicate_functions(folder: Path) -> list[str]:
    body = graph([h.make_node("F", ["x"], ["y"], domain="own")])
    return write(folder, model(body, [_calls("F"), _calls("F")]))


@_shelf.add("to feed the model with")
def enormous_input(folder: Path) -> list[str]:
    body = graph([h.make_node("Relu", ["x"], ["y"])], [value("x", [1 << 40])], [value("y", [1 << 40])])
    return write(folder, model(body))


@_shelf.add("to feed the model with")
def enormous_input_of_many_axes(folder: Path) -> list[str]:
    body = graph([h.make_node("Relu", ["x"], ["y"])], [value("x", [f"d{i}" for i in range(20)])], [value("y", None)])
    return write(folder, model(body))


@_shelf.add("axes")
def input_of_a_hundred_axes(folder: Path) -> list[str]:
    body = graph([h.make_node("Relu", ["x"], ["y"])], [value("x", [1] * 100)], [value("y", None)])
    return write(folder, model(body))


@_shelf.add("unknown element type 99")
def input_of_unknown_type(folder: Path) -> list[str]:
    return write(folder, model(graph([h.make_node("Relu", ["x"], ["y"])], [value("x", [2], 99)])))


@_shelf.add("is empty")
def input_without_name(folder: Path) -> list[str]:
    return write(folder, model(graph([h.make_node("Relu", ["x"], ["y"])], [value("x"), value("")])))


@_shelf.add("\\x1b[2J")
def escapes_in_names(folder: Path) -> list[str]:
    """A value whose name clears the screen and begins a line of its own."""
    name = "\x1b[2J\nonnxeq: equivalent"
    nodes = [h.make_node("Relu", ["x"], [name]), h.make_node("Neg", ["x"], [name]), h.make_node("Relu", [name], ["y"])]
    return write(folder, model(graph(nodes)))


@_shelf.add("is no UTF-8 text")
def name_of_other_bytes(folder: Path) -> list[str]:
    """The parser takes bytes that are no text for a name, and hands them on as bytes."""
    made = model(graph([h.make_node("Relu", ["x"], ["yyyy"]), h.make_node("Relu", ["yyyy"], ["y"])]))
    (folder / "model.onnx").write_bytes(made.SerializeToString().replace(b"yyyy", b"y\xff\xfey"))
    return [str(folder / "model.onnx")]
