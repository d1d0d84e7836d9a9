"""What is said of one layer's property on either side: of attention and recurrent layers."""

from __future__ import annotations

from typing import Any

__all__ = ["of_attention", "of_recurrent"]


def of_attention(what: str, value: Any, *, one: bool) -> str:
    """What an attention layer, or several (``one`` false), does: ``has 4 heads``; empty where no phrase is known."""
    have = "has" if one else "have"
    if what == "heads":
        return f"{have} {value} head{'s' if value != 1 else ''}"
    if what in ("head size", "value size"):
        part = "queries and keys" if what == "head size" else "values"
        return f"{have} {value or 'as many'} numbers of {part} in a head"
    if what == "scale":
        return f"{have} a scale of {value:g}"
    if what == "mask":
        return _mask(str(value), have, one=one)
    if what == "position bias":
        return f"{have} a position bias along {value}" if value else f"{have} no position bias"
    if what == "sees nothing":
        end = "s" if one else ""
        return f"give{end} zeros for a query that sees nothing" if value else f"leave{end} such a query to the softmax"
    return ""


def _mask(value: str, have: str, *, one: bool) -> str:
    if value == "none":
        return f"{have} no mask"
    if value.startswith("causal"):
        return "is causal" if one else "are causal"
    if value.startswith("added, along "):
        return f"{have} a mask added along {value.removeprefix('added, along ')}"
    return f"{have} a mask ({value})"


def of_recurrent(what: str, value: Any, *, one: bool) -> str:
    """What a recurrent layer, or several (``one`` false), does: ``runs forward``; empty where no phrase is known."""
    have, end = ("has", "s") if one else ("have", "")
    if what == "hidden size":
        return f"{have} a hidden size of {value}"
    if what == "direction":
        return f"run{end} {'in both directions' if value == 'bidirectional' else value}"
    if what == "linear before reset":
        return f"reset{end} {'behind' if value else 'before'} the recurrent product"
    if what == "activations":
        return f"{have} the activations {value}"
    if what == "given":
        return f"give{end} {'the whole sequence' if value == 'sequence' else 'the last state'}"
    if what == "initial state":
        return f"start{end} from {'a state that is given' if value else 'zeros'}"
    return ""
