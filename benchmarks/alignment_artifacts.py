"""The models of ``alignment.py`` and their artifacts: an exporter's own files, and those files edited."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnxeq.graph.inspect import load

__all__ = ["MODELS", "Model", "Variant", "artifact_of", "renamed"]


@dataclass(frozen=True)
class Variant:
    """An artifact and its bridge.

    Attributes:
        exporter: Whose file it is.
        form: ``unfolded`` or ``deployed``.
        edit: Name of an edit, or empty.
        bridge: The bridge's exporter.
    """

    exporter: str
    form: str
    edit: str = ""
    bridge: str = ""

    @property
    def label(self) -> str:
        """For the table."""
        form = "folded" if self.form == "deployed" else self.form
        through = f" by {self.bridge}" if self.bridge and self.bridge != self.exporter else ""
        return " ".join(filter(None, [self.exporter, form, self.edit])) + through


@dataclass(frozen=True)
class Model:
    """A model of a zoo with seeded weights, at one image size."""

    zoo: str
    name: str
    size: int
    variants: tuple[Variant, ...]


def _both(exporter: str, bridge: str = "") -> tuple[Variant, ...]:
    return tuple(Variant(exporter, f, e, bridge) for e in ("", "onnxsim", "renamed") for f in ("unfolded", "deployed"))


def _usual(exporter: str) -> tuple[Variant, ...]:
    return (Variant(exporter, "unfolded"), Variant(exporter, "deployed"), Variant(exporter, "deployed", "renamed"))


MODELS = (
    Model("torchvision", "resnet50", 64, _both("dynamo") + _both("torchscript") + _both("torchscript", "dynamo")),
    *(
        Model("torchvision", name, size, _usual("dynamo"))
        for name, size in (("vit_b_16", 224), ("swin_t", 112), ("densenet121", 64), ("googlenet", 64))
    ),
    *(
        Model("keras", name, size, _usual("tf2onnx"))
        for name, size in (("ResNet50", 64), ("MobileNetV2", 64), ("InceptionV3", 75), ("NASNetMobile", 64))
    ),
)


def artifact_of(folder: Path, variant: Variant) -> Path:
    """The file of a variant, edited where that is asked for."""
    plain = folder / variant.exporter / f"{variant.form}.onnx"
    if not variant.edit:
        return plain
    path = plain.with_name(f"{variant.form}-{variant.edit}.onnx")
    if not path.exists():
        onnx.save(simplified(plain) if variant.edit == "onnxsim" else renamed(load(plain)), path)
    return path


def simplified(path: Path) -> onnx.ModelProto:
    """What onnxsim makes of a file."""
    import onnxsim

    made: onnx.ModelProto = onnxsim.simplify(str(path), certify=False)[0]
    return made


def renamed(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """The same graph with a new name for every tensor and node, nodes in the same order, and all notes removed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    if any(a.type == onnx.AttributeProto.GRAPH for node in graph.node for a in node.attribute):
        raise SystemExit("a graph with sub-graphs is not renamed")
    ends = {v.name for v in (*graph.input, *graph.output, *graph.initializer)}
    names = sorted(ends | {n for node in graph.node for n in (*node.input, *node.output) if n})
    numbers = random.Random(seed).sample(range(10 * len(names)), len(names))  # noqa: S311 - any will do
    new = {"": "", **{name: f"t{number}" for name, number in zip(names, numbers, strict=True)}}
    for node in graph.node:
        node.input[:] = [new[n] for n in node.input]
        node.output[:] = [new[n] for n in node.output]
        node.name, node.doc_string = "", ""
        del node.metadata_props[:]
    for held in (*graph.input, *graph.output, *graph.initializer):
        held.name, held.doc_string = new[held.name], ""
        del held.metadata_props[:]
    for notes in (graph.value_info, graph.quantization_annotation, graph.metadata_props, copy.metadata_props):
        del notes[:]
    return copy
