"""What ``alignment.py`` holds pairs against, made in a process that may import one framework.

    python benchmarks/alignment_native.py ZOO NAME SIZE FOLDER [EXPORTER ...]

Writes, for each exporter, FOLDER/EXPORTER with ``unfolded.onnx``, ``deployed.onnx``, and what the product knows of the
native program, as its own jobs write it: ``f32/`` and ``f64/``. FOLDER/truth holds each layer's own output in float64,
taken without the product: torch's from forward hooks on a model built anew from the zoo, with the same weights in
float64; Keras' from a model that has every layer's output for an output. FOLDER/feed.npz is the input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from onnxeq import native_values
from onnxeq.arrays import save_array
from onnxeq.protocols import LoadRequest, Native
from onnxeq.runners.native import load_converter
from onnxeq.types import Array, ExportForm, Feed, ModelRef, Precision, TensorSpec

_SEED = 7


def main(zoo: str, name: str, size: int, folder: Path, exporters: list[str]) -> None:
    """Writes everything for one model."""
    shape = (1, 3, size, size) if zoo == "torchvision" else (1, size, size, 3)
    ref = ModelRef(f"{zoo}:{name}@seeded", zoo, name, "seeded")
    converter = load_converter("torch" if zoo == "torchvision" else "keras")
    for number, exporter in enumerate(exporters or [""]):
        request = LoadRequest(ref, (TensorSpec("image", "float32", shape),), exporter=exporter)
        native = converter.load(request, _quiet)
        (spec,) = native.signature.inputs
        image = np.random.default_rng(_SEED).standard_normal(shape).astype(np.float32)
        home = folder / (exporter or "tf2onnx")
        home.mkdir(parents=True, exist_ok=True)
        exports = native.export(home, (ExportForm.UNFOLDED, ExportForm.DEPLOYED), None)
        for precision in (Precision.F32, Precision.F64):
            native_values.store(home / precision.value, native.layers({spec.name: image}, precision))
        record = {
            "input": spec.name,
            "exports": [
                {"inputs": list(e.input_names), "outputs": list(e.output_names), "file": e.path.name} for e in exports
            ],
        }
        if number == 0:
            np.savez(folder / "feed.npz", image=image)
            truth = _torch_layers(native, name, image) if zoo == "torchvision" else _keras_layers(native, image)
            _store(folder / "truth", truth)
        (home / "record.json").write_text(json.dumps(record))


def _quiet(_step: str) -> None:
    return None


def _store(folder: Path, layers: Iterator[tuple[str, str, Array, bool]]) -> None:
    """Writes each call of a layer: its path, its kind, what it returned, whether that is what it was given."""
    folder.mkdir(exist_ok=True)
    rows = []
    for place, (path, kind, array, idle) in enumerate(layers):
        save_array(folder / f"{place}.npy", array)
        rows.append({"path": path, "kind": kind, "idle": idle})
    (folder / "index.json").write_text(json.dumps(rows))


def _torch_layers(native: Native, name: str, image: Array) -> Iterator[tuple[str, str, Array, bool]]:
    """Each call of a module that calls no other module, in the order in which they return."""
    import torch
    import torchvision

    torch.backends.mha.set_fastpath_enabled(False)
    options = {"init_weights": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, weights=None, **options)
    held = {k: torch.from_numpy(np.array(v)) for k, v in native.weights().items()}
    model.load_state_dict({k: held[k] for k in model.state_dict()})
    model = model.double().eval()
    calls: list[tuple[str, str, Array, bool]] = []
    busy: list[tuple[list[bool], Any]] = []  # for each module that runs: whether it has called one, what it was given

    def enter(_module: Any, args: Any) -> None:
        if busy:
            busy[-1][0][0] = True
        given = args[0].clone() if args and isinstance(args[0], torch.Tensor) else None  # a module may work in place
        busy.append(([False], given))

    def leave(path: str) -> Any:
        def hook(module: Any, _args: Any, result: Any) -> None:
            (called_another,), given = busy.pop()
            made = result[0] if isinstance(result, tuple) else result
            if not called_another:
                array = made.detach().numpy().copy()
                idle = given is not None and torch.equal(given, made)
                calls.append((path, type(module).__name__, array, idle))

        return hook

    for path, module in model.named_modules():
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave(path))
    with torch.no_grad():
        model(torch.from_numpy(image).double())
    return iter(calls)


def _keras_layers(native: Any, image: Array) -> Iterator[tuple[str, str, Array, bool]]:
    """Each layer but the inputs, of a model with all their results for outputs, in float64."""
    import keras

    from onnxeq_converters import from_keras

    model = native.model
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    whole = keras.Model(model.inputs, {f"layer{i:04}": layer.output for i, layer in enumerate(layers)})
    specs = (TensorSpec("image", "float32", image.shape),)
    wide = from_keras.wrap(whole, LoadRequest(ModelRef("whole", "live", "whole"), specs), _quiet)
    feed: Feed = {wide.signature.inputs[0].name: image}
    made = wide.run(feed, Precision.F64)
    if len(made) != len(layers):
        raise SystemExit(f"{len(layers)} layers, {len(made)} outputs")
    before = {id(layer.output): array for layer, array in zip(layers, made.values(), strict=True)}
    for layer, array in zip(layers, made.values(), strict=True):
        given = None if isinstance(layer.input, list) else before.get(id(layer.input))
        idle = given is not None and np.array_equal(given, array)
        yield layer.name, type(layer).__name__, array, idle


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:])
