"""Exports base models, in a process that may import their framework: ``python -m ... FOLDER FRAMEWORK BASE...``."""

from __future__ import annotations

import importlib
import inspect
import io
import json
import shutil
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from .bases import BASES, Base, real_folder

__all__ = ["main"]

_SEED = 20


def _module(base: Base) -> Any:
    """The torch module in inference mode, trained where the base is a real one, else with healthy weights."""
    import torch

    if base.real:
        from models import real_models

        return getattr(real_models, base.model)().eval()
    home = next(
        m
        for m in (importlib.import_module(f"{__package__}.{n}") for n in ("torch_images", "torch_sequences"))
        if base.model in m.__all__
    )
    torch.manual_seed(_SEED)
    module = getattr(home, base.model)()
    _heal(module, base)
    return module.eval()


def _heal(module: Any, base: Base) -> None:
    """Weights under which no channel is dead: scaled by fan-in, norms spread, running statistics measured."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(_SEED)

    def draw(shape: torch.Size) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            owner = module.get_submodule(name.rpartition(".")[0])
            norm = isinstance(owner, (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d))
            if norm and name.endswith("weight"):
                parameter.copy_(1 + 0.25 * draw(parameter.shape).clamp(-2, 2))
            elif isinstance(owner, nn.PReLU):
                parameter.copy_(0.25 + 0.1 * draw(parameter.shape).clamp(-2, 2))
            elif parameter.dim() > 1 and not isinstance(owner, nn.Embedding):
                fan = parameter[0].numel() if not isinstance(owner, nn.ConvTranspose2d) else parameter[:, 0].numel() / 4
                parameter.copy_(draw(parameter.shape) * (1.7 / fan) ** 0.5)
            else:
                parameter.copy_(draw(parameter.shape) * (0.4 if parameter.dim() > 1 else 0.15))
        module.train()
        for part in module.modules():
            if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                part.momentum = None  # the plain mean over batches
        for seed in range(3):
            module(_example(base, 16, seed))
        for part in module.modules():
            if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                part.num_batches_tracked.fill_(3)


def _example(base: Base, batch: int, seed: int = 0) -> Any:
    import torch

    generator = torch.Generator().manual_seed(seed)
    if base.words:
        return torch.randint(0, base.words, (batch, *base.shape), generator=generator)
    return torch.randn(batch, *base.shape, generator=generator)


def _export_torch(base: Base, folder: Path) -> tuple[Path, Path]:
    import numpy as np
    import torch

    module, example = _module(base), _example(base, 2)
    (name,) = list(inspect.signature(module.forward).parameters)
    source = folder / "sources" / f"{base.model}.pt2"
    dynamic = {name: {0: torch.export.Dim("batch")}}
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        np.savez(source.with_suffix(".npz"), **{k: v.numpy() for k, v in module.state_dict().items()})
        torch.export.save(torch.export.export(module, (example,), dynamic_shapes=dynamic), source)
    artifact = folder / base.id / "healthy.onnx"
    options: dict[str, Any] = {} if base.opset is None else {"opset_version": base.opset}
    with torch.no_grad():
        if base.exporter == "script":
            outputs = module(example)
            count = len(outputs) if isinstance(outputs, tuple) else 1
            names = ["output", *(f"output_{k}" for k in range(1, count))][:count]
            torch.onnx.export(
                module, (example,), str(artifact), dynamo=False, input_names=[name], output_names=names,
                dynamic_axes={n: {0: "batch"} for n in (name, *names)}, opset_version=base.opset or 17,
            )  # fmt: skip
        else:
            plain = base.exporter == "unfolded"
            program = torch.onnx.export(
                module, (example,), dynamo=True, optimize=not plain, verbose=False, dynamic_shapes=dynamic, **options
            )
            program.save(artifact)
    return source, artifact


def _export_keras(base: Base, folder: Path) -> tuple[Path, Path]:
    import keras
    import numpy as np
    import tensorflow
    import tf2onnx

    if base.real:
        source = real_folder() / base.model
        model = keras.models.load_model(source, compile=False)
    else:
        from . import keras_models

        keras.utils.set_random_seed(_SEED)
        model = getattr(keras_models, base.model)()
        rng = np.random.default_rng(_SEED)
        model.set_weights([_healthy(v.path, w, rng) for v, w in zip(model.weights, model.get_weights(), strict=True)])
        source = folder / "sources" / f"{base.model}.keras"
        source.parent.mkdir(parents=True, exist_ok=True)
        model.save(source)
    spec = [tensorflow.TensorSpec((None, *t.shape[1:]), t.dtype, name=t.name) for t in model.inputs]
    proto, _ = tf2onnx.convert.from_keras(model, spec, opset=base.opset or 17)
    artifact = folder / base.id / "healthy.onnx"
    artifact.write_bytes(proto.SerializeToString())
    return source, artifact


def _healthy(path: str, value: Any, rng: Any) -> Any:
    """A weight in place of Keras' own, whose biases are zero and whose norms do nothing."""
    kind = path.rpartition("/")[2]
    if value.dtype.kind != "f":
        return value
    if kind in ("gamma", "moving_variance"):
        return rng.uniform(0.6, 1.5, value.shape).astype(value.dtype)
    if value.ndim > 1 and kind != "bias":
        return value * 1.3
    return (0.15 * rng.standard_normal(value.shape)).astype(value.dtype)


def _copy_file(base: Base, folder: Path) -> tuple[Path, Path]:
    import onnx

    source = folder / base.id / "source.onnx"
    shutil.copyfile(real_folder() / base.model, source)
    artifact = folder / base.id / "healthy.onnx"
    onnx.save(onnx.load(source), artifact)
    return source, artifact


def main(arguments: list[str]) -> int:
    """Exports the bases that are named and writes a record of each when it is whole."""
    folder, framework, ids = Path(arguments[0]), arguments[1], set(arguments[2:])
    export = {"torch": _export_torch, "keras": _export_keras, "file": _copy_file}[framework]
    warnings.simplefilter("ignore")
    for base in (b for b in BASES if b.id in ids):
        print(f"export {base.id}", file=sys.stderr, flush=True)
        home = folder / base.id
        home.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            source, artifact = export(base, folder)
        inside = source.relative_to(folder) if source.is_relative_to(folder) else source
        record = {"source": str(inside), "artifact": str(artifact.relative_to(folder))}
        (home / "base.json").write_text(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
