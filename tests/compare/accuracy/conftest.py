"""Folders of one-coloured pictures, and networks that tell which colour a picture has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def draw(folder: Path, colours: Sequence[Sequence[int]], size: int = 8) -> None:
    """One picture of each colour."""
    from PIL import Image

    folder.mkdir(parents=True)
    for index, colour in enumerate(colours):
        Image.new("RGB", (size, size), tuple(colour)).save(folder / f"{index}.png")


def colour_model(
    classes: int = 3, places: Sequence[int] = (0, 1, 2), *, layout: str = "NCHW", batch: int | str = "N", size: int = 8
) -> onnx.ModelProto:
    """``scores[places[c]] = mean(x[c])`` for the channels red, green and blue; all other classes score 0."""
    table = np.zeros((3, classes), np.float32)
    table[range(3), places] = 1
    nodes = [
        helper.make_node("GlobalAveragePool", ["x" if layout == "NCHW" else "turned"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "table"], ["scores"]),
    ]
    if layout == "NHWC":
        nodes.insert(0, helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 3, 1, 2]))
    shape = [batch, 3, size, size] if layout == "NCHW" else [batch, size, size, 3]
    graph = helper.make_graph(
        nodes, "colour", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(table, "table")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def save(path: str, model: onnx.ModelProto) -> str:
    """Writes the model."""
    Path(path).write_bytes(model.SerializeToString())
    return path


def recipe(path: str, *steps: Mapping[str, Any]) -> str:
    """A recipe that divides by 255, channels first, with more steps after the decoding."""
    every = [{"step": "decode"}, *steps, {"step": "scale", "divisor": 255}, {"step": "layout", "axes": "NCHW"},
             {"step": "cast", "dtype": "float32"}]  # fmt: skip
    Path(path).write_text(json.dumps({"schema": "onnxeq.recipe/1", "steps": every}))
    return path
