"""Strings and n-grams."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from onnxeq.referee.ops.tensors import unsupported
from onnxeq.referee.registry import Call, op

__all__: list[str] = []


def _strings(items: list[Any], shape: tuple[int, ...]) -> Any:
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out.reshape(shape)


@op("StringConcat", since=20, witnesses=("suite", "onnxruntime"))
def string_concat(call: Call, X: Any, Y: Any) -> Any:
    """``X`` followed by ``Y``, with broadcasting."""
    return np.asarray(np.add(X.astype(object), Y.astype(object)), dtype=object)


@op("StringNormalizer", since=10, witnesses=("suite", "onnxruntime"))
def string_normalizer(call: Call, X: Any) -> Any:
    """Drops stop words, then changes the case; nothing left becomes one empty string."""
    stop, action = list(call.get("stopwords") or ()), call.get("case_change_action", "NONE")
    rows = X.reshape(-1) if X.ndim == 1 else X[0]
    if not call.get("is_case_sensitive", 0):
        folded = {s.lower() for s in stop}
        kept = [s for s in rows if s.lower() not in folded]
    else:
        kept = [s for s in rows if s not in set(stop)]
    change = {"LOWER": str.lower, "UPPER": str.upper}.get(action, str)
    kept = [change(s) for s in kept] or [""]
    return _strings(kept, (len(kept),) if X.ndim == 1 else (1, len(kept)))


@op("StringSplit", since=20, witnesses=("suite", "onnxruntime"))
def string_split(call: Call, X: Any) -> tuple[Any, Any]:
    """Substrings along a new last axis, padded with empty ones, and how many there are."""
    delimiter, most = call.get("delimiter") or None, call.get("maxsplit")
    parts = [s.split(delimiter, -1 if most is None else most) for s in X.reshape(-1)]
    parts = [p if s or delimiter is None else [] for p, s in zip(parts, X.reshape(-1), strict=True)]
    width = max((len(p) for p in parts), default=0)
    flat = [item for p in parts for item in [*p, *[""] * (width - len(p))]]
    counts = np.array([len(p) for p in parts], dtype=np.int64).reshape(X.shape)
    return _strings(flat, (*X.shape, width)), counts


@op("RegexFullMatch", since=20, witnesses=("suite", "onnxruntime"))
def regex_full_match(call: Call, X: Any) -> Any:
    """Whether each string matches the whole pattern (RE2 syntax: Python's shares its common part)."""
    try:
        pattern = re.compile(call.get("pattern"))
    except re.error as error:
        raise unsupported(call, f"pattern {call.get('pattern')!r}: {error}") from None
    return np.array([bool(pattern.fullmatch(s)) for s in X.reshape(-1)], dtype=bool).reshape(X.shape)


def _ngrams(call: Call) -> list[tuple[Any, ...]]:
    """The pool cut into n-grams: ``ngram_counts[n-1]`` is where those of length ``n`` begin."""
    pool = call.get("pool_strings") or call.get("pool_int64s")
    starts = [*call.get("ngram_counts"), len(pool)]
    found: list[tuple[Any, ...]] = []
    for size, (begin, end) in enumerate(itertools.pairwise(starts), start=1):
        found += [tuple(pool[i : i + size]) for i in range(begin, end, size)]
    return found


def _windows(row: list[Any], sizes: range, skips: int) -> Iterator[tuple[Any, ...]]:
    """Every n-gram of a row with every skip; single items have no skip."""
    for size in sizes:
        for stride in range(1, 2 if size == 1 else skips + 2):
            span = stride * (size - 1) + 1
            for begin in range(len(row) - span + 1):
                yield tuple(row[begin : begin + span : stride])


@op("TfIdfVectorizer", since=9, witnesses=("suite", "onnxruntime"))
def tf_idf(call: Call, X: Any) -> Any:
    """Counts of the pool's n-grams in each row, by ``mode`` TF, IDF or TFIDF."""
    grams, places = _ngrams(call), list(call.get("ngram_indexes"))
    weights = call.get("weights") or [1.0] * len(grams)
    where = {gram: i for i, gram in enumerate(grams)}
    sizes = range(call.get("min_gram_length"), call.get("max_gram_length") + 1)
    rows = X.reshape(1, -1) if X.ndim < 2 else X
    out = np.zeros((rows.shape[0], max(places) + 1))
    scale = np.zeros(out.shape[1])
    for r, row in enumerate(rows.tolist()):
        for gram in _windows(row, sizes, call.get("max_skip_count")):
            if gram in where:
                out[r, places[where[gram]]] += 1
    for i, place in enumerate(places):
        scale[place] = weights[i]
    mode = call.get("mode")
    if mode == "IDF":
        out = np.where(out > 0, scale, 0)
    elif mode == "TFIDF":
        out = out * scale
    return out[0] if X.ndim < 2 else out
