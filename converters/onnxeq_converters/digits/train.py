"""Trains the models of the zoo ``digits:`` and writes their weights.

    python -m onnxeq_converters.digits.train [--only cnn] [--kind retrained] [--out FOLDER]

One thread, one seed, no random augmentation but that of the seed: on one machine with one version of torch the files
come out byte for byte the same. Another processor or version may round otherwise, and training carries that on; the
files that come with the package are the reference.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from onnxeq.types import Array
from onnxeq_converters.digest import file_sha256

from . import ARCHITECTURES, SEEDS, TESTED, shipped_file
from .data import Split, prepared, split
from .torch_models import BUILDERS

__all__ = ["Plan", "correct", "main", "train", "write"]


@dataclass(frozen=True)
class Plan:
    """How long and how fast a model learns.

    Attributes:
        epochs: Passes over the training pictures.
        rate: The highest learning rate; it rises over the first tenth of the steps and falls as a cosine.
        batch: Pictures in a step.
    """

    epochs: int
    rate: float
    batch: int = 64


PLANS = {"cnn": Plan(30, 5e-3), "resnet": Plan(25, 5e-3), "vit": Plan(80, 3e-3), "gru": Plan(60, 5e-3)}


def train(architecture: str, seed: int, digits: Split, plan: Plan | None = None) -> nn.Module:
    """A trained model in inference mode.

    Args:
        architecture: One of :data:`.ARCHITECTURES`.
        seed: Of the first weights, the order of the pictures and their shifts.
        digits: The pictures.
        plan: How; the architecture's own by default.
    """
    plan = plan or PLANS[architecture]
    images = torch.from_numpy(prepared(digits.train_pixels))
    labels = torch.from_numpy(digits.train_labels)
    with _repeatable(seed):
        model = BUILDERS[architecture]().train()
        learner = torch.optim.AdamW(model.parameters(), plan.rate, weight_decay=0.02)
        per_epoch = len(images) // plan.batch
        for step in range(plan.epochs * per_epoch):
            if step % per_epoch == 0:
                order = torch.randperm(len(images))
            chosen = order[(step % per_epoch) * plan.batch :][: plan.batch]
            for group in learner.param_groups:
                group["lr"] = plan.rate * _share(step / (plan.epochs * per_epoch))
            loss = functional.cross_entropy(model(_shifted(images[chosen])), labels[chosen], label_smoothing=0.05)
            learner.zero_grad()
            loss.backward()
            learner.step()
        return model.eval()


def _share(done: float) -> float:
    """Part of the highest learning rate when ``done`` of the steps are."""
    return done / 0.1 if done < 0.1 else 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))


def _shifted(images: Tensor) -> Tensor:
    """Every picture moved by one pixel at most along each axis, by the random generator."""
    wide = functional.pad(images, (1, 1, 1, 1))
    down, right = torch.randint(0, 3, (2, len(images), 1, 1))
    places = torch.arange(8)
    return wide[torch.arange(len(images))[:, None, None], down + places[None, :, None], right + places[None, None, :]]


@contextlib.contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """One thread and deterministic kernels; the caller's random state is left as it was."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)


def correct(model: nn.Module, pixels: Array, labels: Array) -> int:
    """How many pictures ``float64[N,8,8]`` are told as what ``int64[N]`` says."""
    with torch.inference_mode():
        told = model(torch.from_numpy(prepared(pixels))).argmax(1)
    return int((told.numpy() == labels).sum())


def write(model: nn.Module, path: Path) -> None:
    """The weights as a safetensors file: names sorted and no metadata, so that its bytes say the weights only."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.numpy() for name, value in sorted(model.state_dict().items())}, path)


def main(arguments: list[str] | None = None) -> int:
    """Trains, writes, and prints one line per file."""
    parser = argparse.ArgumentParser(prog="python -m onnxeq_converters.digits.train", description="Trains the digits.")
    parser.add_argument("--only", choices=list(ARCHITECTURES), help="one architecture; all of them by default")
    parser.add_argument("--kind", choices=list(SEEDS), help="one kind of weights; all of them by default")
    parser.add_argument("--out", type=Path, help="folder of the files; the package's own by default")
    options = parser.parse_args(arguments)
    digits = split()
    for architecture in [options.only] if options.only else ARCHITECTURES:
        for kind in [options.kind] if options.kind else SEEDS:
            began = time.perf_counter()
            model = train(architecture, SEEDS[kind], digits)
            place = shipped_file(architecture, kind)
            path = options.out / place.name if options.out else place
            write(model, path)
            right = correct(model, digits.test_pixels, digits.test_labels)
            took = time.perf_counter() - began
            print(  # noqa: T201  a script's output
                f"{architecture:8}{kind:12}{right} of {TESTED} right ({right / TESTED:.1%})"
                f"{path.stat().st_size:>9} bytes  sha256 {file_sha256(path)[:16]}  {took:.0f} s",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
