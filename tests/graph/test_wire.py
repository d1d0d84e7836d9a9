"""The encoding of a file, walked through before it is parsed."""

from __future__ import annotations

import onnx
import pytest

from onnxeq.graph import wire


def test_an_ordinary_model_has_no_excess(build) -> None:
    """A small graph is neither deep nor made of many messages."""
    model = build("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    assert wire.excess(model.SerializeToString()) == ""


def _length(size: int) -> bytes:
    return bytes([size]) if size < 0x80 else bytes([size & 0x7F | 0x80]) + _length(size >> 7)


def _nested(levels: int) -> bytes:
    """A model whose output's type is a sequence of sequences: three messages, and two for each level."""
    kind = b"\x0a\x02\x08\x01"
    for _ in range(levels):
        sequence = b"\x0a" + _length(len(kind)) + kind
        kind = b"\x22" + _length(len(sequence)) + sequence
    value = b"\x12" + _length(len(kind)) + kind
    graph = b"\x62" + _length(len(value)) + value
    return b"\x3a" + _length(len(graph)) + graph


@pytest.mark.parametrize("levels", [10, 40, 45, 46, 47, 48, 49, 50, 51, 60, 1000])
def test_parser_and_count_agree(levels: int) -> None:
    """What is called too deep is what the parser refuses, level by level."""
    data = _nested(levels)
    try:
        onnx.ModelProto.FromString(data)
    except Exception:  # the parser's own kind
        assert "nested more than 100 deep" in wire.excess(data)
    else:
        assert wire.excess(data) == ""


def test_messages_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten empty nodes in a graph are eleven messages."""
    data = b"\x3a\x14" + b"\x0a\x00" * 10
    monkeypatch.setattr(wire, "MOST_MESSAGES", 11)
    assert wire.excess(data) == ""
    monkeypatch.setattr(wire, "MOST_MESSAGES", 10)
    assert wire.excess(data) == wire.TOO_MANY


@pytest.mark.parametrize("data", [b"\xff" * 20, b"\x3a\x7f\x00", b"\x00\x00", b"\x0e"])
def test_what_is_no_encoding_is_left_to_the_parser(data: bytes) -> None:
    """Noise has no excess: the parser says what it is."""
    assert wire.excess(data) == ""


def test_groups_are_refused_since_parsers_pass_over_them() -> None:
    """An unknown field of the old form before a model is read by protobuf all the same, and hides what comes after."""
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])).SerializeToString()
    hidden = b"\xa3\x06\xa4\x06" + model
    assert onnx.ModelProto.FromString(hidden).graph.name == "g"
    assert "groups" in wire.excess(hidden)
    assert wire.excess(model) == ""
