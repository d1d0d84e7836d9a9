"""``assert_equivalent``, for tests: a check whose failure says what a reader of a test run has to know."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onnxeq.errors import OnnxeqError
from onnxeq.types import Report, Status, Verdict

if TYPE_CHECKING:
    from onnxeq.types import Feed

__all__ = ["assert_equivalent", "failure_text"]

_MOST_CAUSES = 6


def assert_equivalent(
    model: object,
    onnx: object | None = None,
    *,
    inputs: Sequence[str | os.PathLike[str] | Feed] | Feed = (),
    **options: Any,
) -> Report:
    """Fails unless a model and its ONNX form are equivalent; ``inconclusive`` fails, too.

    Args:
        model: A reference (``torchvision:resnet18@seeded``), a path, a live ``nn.Module`` or ``keras.Model``, or an
            ``onnx.ModelProto``.
        onnx: What is judged, likewise; without one, the model's own export.
        inputs: Feeds as :func:`onnxeq.check` takes them; one mapping from name to array is one feed.
        options: Everything else that :func:`onnxeq.check` takes: ``shapes``, ``accept``, ``providers``, ...

    Returns:
        The report, for what else a test wants to ask of it.

    Raises:
        AssertionError: They are not, or it could not be decided: verdict, causes, the rungs that failed or did not run,
            and a command that does it again.
        onnxeq.errors.OnnxeqError: Wrong usage, or something that cannot be run at all.
    """
    __tracebackhide__ = True
    import onnxeq

    feeds = (inputs,) if isinstance(inputs, Mapping) else tuple(inputs)
    try:
        report = onnxeq.check(model, onnx, inputs=feeds, **options)
    except OnnxeqError as error:
        if error.hint:
            error.add_note(error.hint)
        raise
    if report.verdict is not Verdict.EQUIVALENT:
        raise AssertionError(failure_text(report, _replay(model, onnx, feeds, options)))
    return report


def failure_text(report: Report, replay: str) -> str:
    """Why an assertion failed: the verdict, the causes, what failed or was not run, and how to see it again."""
    from onnxeq.report import next_steps
    from onnxeq.report.facts import compared

    against = f" and {report.target['ref']}" if report.target.get("ref") else ""
    meaning = {Verdict.DIVERGENT: "they are not equivalent", Verdict.INCONCLUSIVE: "it could not be decided"}
    lines = [f"{report.source.get('ref')}{against}: {report.verdict.value}, {meaning.get(report.verdict, '')}"]
    lines += [f"  {c.cause.value} at rung {c.rung}: {c.evidence}" for c in report.causes[:_MOST_CAUSES]]
    if len(report.causes) > _MOST_CAUSES:
        lines.append(f"  and {len(report.causes) - _MOST_CAUSES} more causes")
    for rung in (r for r in report.rungs if r.status is Status.FAIL):
        lines.append(f"  {compared(rung)}" + ("" if math.isnan(rung.max_abs) else f", max abs {rung.max_abs:.2g}"))
    if report.verdict is Verdict.INCONCLUSIVE:
        lines += [f"  {compared(rung)}" for rung in report.rungs if rung.status is Status.NOT_RUN]
        lines += [f"  note: {note}" for note in report.notes]
    lines += [f"next: {step}" for step in next_steps(report)]
    return "\n".join([*lines, f"again: {replay}"])


_FLAGS = {
    "seed": "--seed",
    "runner": "--runner",
    "opset": "--opset",
    "exporter": "--exporter",
    "rtol": "--rtol",
    "atol": "--atol",
    "timeout_s": "--timeout",
    "env": "--env",
    "against_env": "--against-env",
}
_LISTS = {"providers": "--providers", "accept": "--accept", "batches": "--batch"}
_SWITCHES = {"trust": "--trust", "weights_only": "--weights-only"}


def _replay(model: object, onnx: object | None, feeds: Sequence[object], options: Mapping[str, Any]) -> str:
    """The command that does it again: ``onnxeq check`` where everything has a name, else the test itself."""
    subjects = [model] if onnx is None else [model, onnx]
    if not all(isinstance(item, (str, os.PathLike)) for item in (*subjects, *feeds)):
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
        return f"pytest {shlex.quote(test)}" if test else "run the test"
    words = ["onnxeq", "check", *(os.fspath(item) for item in subjects)]  # type: ignore[call-overload]
    for feed in feeds:
        words += ["--inputs", os.fspath(feed)]  # type: ignore[call-overload]
    for name, value in options.items():
        if value is None:
            continue
        if name in _FLAGS:
            words += [_FLAGS[name], str(value)]
        elif name in _LISTS:
            words += [_LISTS[name], ",".join(str(v) for v in value)]
        elif name in _SWITCHES and value:
            words.append(_SWITCHES[name])
        elif name == "shapes":
            for key, shape in value.items():
                words += ["--shape", f"{key}={'x'.join(str(d) for d in shape)}"]
    return shlex.join(words)
