"""The framework's model asked again: on feeds of other sizes, and twice with the same feed."""

from __future__ import annotations

from typing import Any

from onnxeq.arrays import load_feeds, save_feeds
from onnxeq.runners.native import error_text, loaded_model, seed_libraries, the_models_own_errors
from onnxeq.types import Feed, Precision
from onnxeq.worker import Job

__all__ = ["repeat", "sizes"]


def sizes(job: Job) -> dict[str, Any]:
    """Runs the model in float32 on feeds of other sizes, which it need not take; writes ``out/f32``.

    ``errors`` says for each feed why it could not be run; what failed has no outputs in the trace.
    """
    native = loaded_model(job)
    job.step("run native/f32")
    trace: list[Feed] = []
    errors: list[str] = []
    for feed in load_feeds(job.inputs["feeds"]):
        try:
            trace.append(native.run(feed, Precision.F32))
            errors.append("")
        except Exception as error:  # whatever a model says to a size that it does not take
            trace.append({})
            errors.append(error_text(error))
    save_feeds(job.out / "f32", trace)
    return {"errors": errors}


def repeat(job: Job) -> dict[str, Any]:
    """Asks why two identical calls give different results.

    Returns:
        ``reseeded``: whether they agree when every random generator is set to the same state before each call;
        ``changed``: the stored values that a call changes; ``source``: the framework's account of where it begins.
    """
    with the_models_own_errors():
        native = loaded_model(job)
        feed = load_feeds(job.inputs["feeds"])[0]
        job.step("run native/f32 again, reseeded")
        bits = []
        for _ in range(2):
            seed_libraries(0)
            bits.append({name: value.tobytes() for name, value in native.run(feed, Precision.F32).items()})
        held = {name: value.tobytes() for name, value in native.weights().items()}
        native.run(feed, Precision.F32)
        changed = [name for name, value in native.weights().items() if held.get(name) != value.tobytes()]
        ask = getattr(native, "unsteady", None)
        return {
            "reseeded": bits[0] == bits[1],
            "changed": changed,
            "source": str(ask(feed)) if callable(ask) else "",
        }
