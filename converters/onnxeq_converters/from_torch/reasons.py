"""What torch's exceptions say, in one line."""

from __future__ import annotations

import re

__all__ = ["reason_of"]


def reason_of(error: BaseException) -> str:
    """The first telling line of the innermost cause, without colours and banners."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[0] if lines else ""
    return f"{type(error).__name__}: {line}"[:300] if line else type(error).__name__
