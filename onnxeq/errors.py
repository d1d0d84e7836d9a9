"""The error tree: each class fixes an exit status and carries the next thing to type.

A message is one line: what is wrong, where, and measured against allowed where there is a number.
The ``hint`` is what to type next. Errors cross the process boundary as JSON (:func:`to_record`,
:func:`from_record`), never as pickles.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "EXIT_DIVERGENT",
    "EXIT_EQUIVALENT",
    "EXIT_INTERRUPTED",
    "EXIT_UNDECIDED",
    "EXIT_USAGE",
    "BadInputs",
    "CannotRun",
    "ExportFailed",
    "FrameworkMissing",
    "GoldenDisputed",
    "JobCrashed",
    "JobKilled",
    "JobOutOfMemory",
    "JobTimeout",
    "OnnxeqError",
    "UnknownModel",
    "UnknownZoo",
    "UnsupportedOperator",
    "UnusableGolden",
    "UnusableModel",
    "UsageError",
    "WeightsUnavailable",
    "from_record",
    "shown",
    "to_record",
]

EXIT_EQUIVALENT = 0
EXIT_DIVERGENT = 1
EXIT_USAGE = 2
EXIT_UNDECIDED = 3
EXIT_INTERRUPTED = 130


def shown(text: str) -> str:
    """Text with what is not printable escaped: a name out of a file must not steer a terminal, or begin a line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class OnnxeqError(Exception):
    """Base of everything this package raises on purpose.

    Args:
        message: One line that says what is wrong and where.
        hint: What the reader can type or change next; empty when there is nothing to do.
        step: The step of a job that was under way, when the error comes out of a job.
    """

    exit_status = EXIT_UNDECIDED

    def __init__(self, message: str, *, hint: str = "", step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.step = step

    def __str__(self) -> str:
        return self.message  # which whoever passes the error on may have made clearer

    def line(self) -> str:
        """The message and the hint as the one line that a terminal shows."""
        text = self.message.rstrip(".")
        return shown(f"{text}. {self.hint}" if self.hint else text)


class UsageError(OnnxeqError):
    """Wrong usage or unusable input: the user can mend it (exit status 2)."""

    exit_status = EXIT_USAGE


class UnknownZoo(UsageError):
    """A model reference names a zoo that no converter offers."""


class UnknownModel(UsageError):
    """A zoo does not offer the named model; the hint lists the nearest names."""


class UnusableModel(UsageError):
    """A file is missing, truncated, or not what its name says."""


class UnusableGolden(UsageError):
    """A golden's record or its arrays are missing, damaged, or of a newer form."""


class BadInputs(UsageError):
    """Given inputs do not fit the model: name, shape or dtype."""


class FrameworkMissing(UsageError):
    """A framework that the source needs is not installed; the hint is the install command."""


class WeightsUnavailable(UsageError):
    """The asked-for weights could not be had; no other weights are put in their place."""


class GoldenDisputed(OnnxeqError):
    """The executions that were to become a golden disagree (exit status 1)."""

    exit_status = EXIT_DIVERGENT


class CannotRun(OnnxeqError):
    """Something that was needed could not be run or decided (exit status 3)."""


class ExportFailed(CannotRun):
    """The framework's exporter raised; the message carries its reason."""


class UnsupportedOperator(CannotRun):
    """The referee has no validated float64 semantics for an operator."""


class JobCrashed(CannotRun):
    """A job's Python raised something unexpected; the log holds the traceback."""


class JobKilled(CannotRun):
    """A job's process died by a signal (abort in native code, out of memory, kill)."""


class JobOutOfMemory(JobKilled):
    """A job took more memory than there is, or than it may, and was stopped."""


class JobTimeout(CannotRun):
    """A job ran past its time limit and was stopped."""


def _tree(root: type[OnnxeqError]) -> dict[str, type[OnnxeqError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


def to_record(error: OnnxeqError) -> dict[str, Any]:
    """The JSON form of an error, for the job directory and for ``--json``."""
    return {
        "type": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "step": error.step,
    }


def from_record(record: dict[str, Any]) -> OnnxeqError:
    """The error that :func:`to_record` wrote; an unknown type becomes :class:`JobCrashed`."""
    kind = _tree(OnnxeqError).get(str(record.get("type")), JobCrashed)
    return kind(
        str(record.get("message", "")),
        hint=str(record.get("hint", "")),
        step=str(record.get("step", "")),
    )
