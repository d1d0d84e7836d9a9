"""What a model is timed on: the file as it would be deployed, batch sizes, and a feed for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from onnxeq import inputs as inputs_
from onnxeq import sides
from onnxeq.compare.sources import Source
from onnxeq.errors import OnnxeqError
from onnxeq.graph.skim import skim
from onnxeq.jobs import Jobs
from onnxeq.sides import Artifact, Request
from onnxeq.types import Export, ExportForm, Feed, TensorSpec

__all__ = ["Subject", "batches_of", "feed_of", "for_onnx", "prepare"]


@dataclass(frozen=True)
class Subject:
    """A model that is going to be timed.

    Attributes:
        source: The model.
        artifact: The file for onnxruntime: as its exporter writes it by default, or the one that was given.
        names: Native input name -> its name in the file.
        fixed: The only batch size that the file takes; ``None`` for any.
        error: Why there is no such file.
    """

    source: Source
    artifact: Artifact | None
    names: Mapping[str, str]
    fixed: int | None = None
    error: OnnxeqError | None = None

    @property
    def name(self) -> str:
        """What it is called."""
        return self.source.side.name


def prepare(jobs: Jobs, source: Source) -> Subject:
    """Finds the file that would be deployed: what was read for the architecture has nothing folded."""
    if source.native is None:
        return Subject(source, source.artifact, {}, _fixed(source.artifact))
    try:
        export = _deployed(source)
        artifact = sides.open_artifact(export.path, jobs.root)
    except OnnxeqError as error:
        return Subject(source, None, {}, None, error)
    names = dict(zip((s.name for s in source.native.inputs), export.input_names, strict=False))
    return Subject(source, artifact, names, None if export.dynamic_batch else _fixed(artifact))


def _deployed(source: Source) -> Export:
    assert source.native is not None  # noqa: S101 - the caller has just looked
    made = [e for e in source.native.exports if e.form is ExportForm.DEPLOYED]
    return made[0] if made else source.native.exported((ExportForm.DEPLOYED,))[0]


def _fixed(artifact: Artifact) -> int | None:
    """The first size of the first input, where no input leaves it free; 1 for a model whose inputs have none."""
    if sides.has_dynamic_batch(artifact.info.inputs):
        return None
    sizes = [s.shape[0] for s in artifact.info.inputs if s.shape]
    return sizes[0] if sizes and isinstance(sizes[0], int) else 1


def batches_of(fixed: Mapping[str, int | None], asked: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Which batch sizes each model is run with.

    A model that takes one size only is run with that, and those that take any are run with it as well, so that there
    is something to compare.

    Args:
        fixed: Model -> the only size that it takes; ``None`` for any.
        asked: The sizes that were asked for.
    """
    all_sizes = tuple(sorted({*asked, *(size for size in fixed.values() if size is not None)}))
    return {name: all_sizes if size is None else (size,) for name, size in fixed.items()}


def feed_of(subject: Subject, request: Request, batch: int) -> Feed:
    """The feed of one batch size, under the model's own names: the user's, or a seeded one.

    Raises:
        onnxeq.errors.OnnxeqError: Inputs that do not fit, or of unknown shape.
    """
    specs = _specs(subject, request)
    for feed in request.feeds:
        if inputs_.batch_size(feed) == batch:
            return inputs_.check_feed(_placed(feed, specs), specs)
    free = subject.fixed is None or sides.has_dynamic_batch(specs)
    made = inputs_.generate(specs, seed=request.seed, batches=[batch], dynamic_batch=free)
    return next((feed for feed in made if inputs_.batch_size(feed) == batch), made[0])


def _specs(subject: Subject, request: Request) -> tuple[TensorSpec, ...]:
    native, artifact = subject.source.native, subject.artifact
    if native is None:
        return sides.declared_inputs(replace(request, feeds=()), artifact) or ()
    ranges = inputs_.index_ranges(skim(artifact.path).model) if artifact is not None else {}
    return tuple(replace(s, range=s.range or ranges.get(subject.names.get(s.name, ""))) for s in native.inputs)


def _placed(feed: Feed, specs: Sequence[TensorSpec]) -> Feed:
    """The same under the names of ``specs``: by position where none of them is known."""
    if len(feed) != len(specs) or {s.name for s in specs} & set(feed):
        return feed
    return dict(zip((s.name for s in specs), feed.values(), strict=True))


def for_onnx(subject: Subject, feed: Feed) -> Feed:
    """The same values under the file's names, in the element types that it declares."""
    declared = {s.name: s.dtype for s in subject.artifact.info.inputs} if subject.artifact is not None else {}
    renamed = {subject.names.get(name, name): value for name, value in feed.items()}
    return {**renamed, **inputs_.adapt(renamed, declared)}
