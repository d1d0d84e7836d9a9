"""``onnxeq check``, the straight line: run both sides, climb the ladder, say the verdict.

1. The native side runs in one job: it loads, exports (when no artifact was brought) and executes in
   float32 and float64.
2. The artifact is run by the referee in float64 (with its noise units), by onnxruntime plain and
   optimised, on CUDA where there is a device, and once more after normalisation.
3. Neighbouring executions are compared; the rungs that break are the causes.

:mod:`onnxeq.evidence` has the first two steps, :mod:`onnxeq.judge` the third. Pictures among the inputs are prepared
before, by :mod:`onnxeq.preprocessing`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from onnxeq import sides, versions
from onnxeq.envs.environment import find
from onnxeq.errors import UsageError
from onnxeq.evidence import framework, onnx_file
from onnxeq.evidence.common import Setting
from onnxeq.inputs import DEFAULT_BATCHES
from onnxeq.jobs import Jobs, Listener
from onnxeq.judge import conclude
from onnxeq.ledger import WeightsAlone, without_program
from onnxeq.ledger import weights_only as ledger_of_weights
from onnxeq.preprocessing import rung as preprocessing
from onnxeq.preprocessing.pictures import Asked, both, pictures_in
from onnxeq.providers import choose_providers, restricted
from onnxeq.rules import rules_of
from onnxeq.runtimes import choose_runner
from onnxeq.sides import Request
from onnxeq.types import Feed, Report
from onnxeq.zoo import converter_for

__all__ = ["check"]


def check(
    source: object,
    target: object | None = None,
    *,
    inputs: Sequence[str | os.PathLike[str] | Feed] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    batches: Sequence[int] = DEFAULT_BATCHES,
    seed: int = 0,
    providers: Sequence[str] | None = None,
    runner: str | None = None,
    opset: int | None = None,
    exporter: str = "",
    accept: Sequence[str] = (),
    rtol: float | None = None,
    atol: float | None = None,
    timeout_s: float | None = None,
    trust: bool = False,
    use_cache: bool = True,
    weights_only: bool = False,
    env: str = "",
    against_env: str = "",
    recipe: str = "",
    preprocess_as: str = "",
    listener: Listener | None = None,
) -> Report:
    """Says whether a model and its ONNX form are equivalent and, if not, on which rung they part.

    Args:
        source: A model reference (``torchvision:resnet18@seeded``, a path, ``file.py:factory``), a live
            ``nn.Module`` or ``keras.Model``, or an ``onnx.ModelProto``.
        target: What to judge: an ONNX file or an ``onnx.ModelProto``, or whatever a source can be, which is then run
            by its own framework as well. Without one the source is exported by its framework's exporter; an ONNX
            source is judged on its own.
        inputs: Feeds: files (see ``onnxeq.inputs.read``) or mappings from input name to array; or pictures and folders
            of pictures, which the source's own zoo prepares.
        shapes: Input name -> shape; the name may be empty when there is one input only.
        batches: Sizes tried where the batch axis may vary.
        seed: Seed of generated inputs and of a factory's random weights.
        providers: ``cpu``, ``cuda``; by default those that this machine has.
        runner: The runtime that is judged in the place of onnxruntime: see :mod:`onnxeq.runtimes`.
        opset: Opset of the export.
        exporter: Which of the framework's exporters to use (torch: ``dynamo``, ``torchscript``); its default if empty.
        accept: Reduced precisions that are fine: ``tf32``, ``float16``, ``bfloat16``, ``int8``.
        rtol: With ``atol``, a classic tolerance in place of the measured float32 limits,
            ``|a-b| <= atol + rtol*|b|``.
        atol: See ``rtol``.
        timeout_s: Limit for each job in seconds.
        trust: Whether code stored in model files may run.
        use_cache: Whether results of earlier identical jobs are reused.
        weights_only: Whether the stored weights alone are compared (:func:`onnxeq.ledger`), and nothing is run.
        env: The environment (``onnxeq env create``) in which the framework runs, and onnxruntime if that is in it.
        against_env: Another one, in which the model is run as well: see :mod:`onnxeq.versions`.
        recipe: By what pictures are prepared in the place of the source's own recipe: a model of a zoo, or a recipe's
            ``.json`` file.
        preprocess_as: By what the deployed side prepares them, the same: see :mod:`onnxeq.preprocessing.rung`.
        listener: Told each job's label and step.

    Raises:
        onnxeq.errors.UsageError: Something the caller can mend.
        onnxeq.errors.CannotRun: The native side could not be run.
    """
    rules = rules_of(accept, rtol, atol)
    asked = Asked(pictures_in(inputs), recipe, preprocess_as, trust)
    given = () if asked.pictures else inputs
    request = Request.of(given, shapes, batches=batches, seed=seed, opset=opset, trust=trust, exporter=exporter)
    for option, given_too in (("--against-env", against_env), ("--preprocess-as", preprocess_as)):
        if weights_only and given_too:
            raise UsageError(f"{option} runs the model, --weights-only runs nothing", hint="leave one of them out")
    here, there = (find(name) if name else None for name in (env, against_env))
    if weights_only:
        return ledger_of_weights(
            source, target, request, timeout_s=timeout_s, use_cache=use_cache, env=env, listener=listener
        )
    jobs_in = functools.partial(Jobs, timeout_s=timeout_s, listener=listener, use_cache=use_cache)
    with jobs_in(environment=here) as jobs:
        setting = Setting(choose_runner(runner), restricted(choose_providers(providers), here, providers), rules.accept)
        if setting.runtime.name != "ort" and "cuda" in (providers or ()):
            raise UsageError("--providers cuda is onnxruntime's", hint=f"leave it out, or --runner {runner}")
        ref, live = sides.resolve(source, jobs)
        ours, theirs = both(jobs, ref, asked)
        request = request if ours is None else replace(request, feeds=ours.feeds())
        parts = versions.plan(ref, here, there, setting.runtime.name)
        if live is None and converter_for(ref) == "onnx":
            found = onnx_file.gather(jobs, ref, target, request, setting)
        else:
            try:
                found = framework.gather(jobs, ref, live, target, request, setting)
            except WeightsAlone as alone:
                limits: dict[str, Any] = {"timeout_s": timeout_s, "use_cache": use_cache, "listener": listener}
                return without_program(ledger_of_weights(source, target, request, env=env, **limits), alone)
        report = conclude(jobs, replace(found, notes=(*versions.placed(jobs, found), *found.notes)), rules)
        if ours is not None:
            report = preprocessing.extended(report, found, jobs, asked, ours, theirs, rules)
        if parts is None:
            return report
        with jobs_in(environment=there) as others:
            return versions.extended(report, found, parts, others, request, rules)
