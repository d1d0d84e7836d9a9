"""Code in a ``.pt2`` program, found before torch reads it.

torch turns parts of the file into Python: it unpickles tensors and objects, evaluates the sizes' expressions and the
guards, writes names into a function that it compiles, looks up what nodes call by its dotted name, and opens compiled
libraries. So each of those must be what an export writes, unless the user trusts the file:

1. What is pickled holds tensors alone, no other object.
2. Expressions call nothing but sympy's constructors; guards look at sizes and types of the inputs alone.
3. Names are identifiers. Nodes call torch's operators, arithmetic of ``operator`` and ``math``, and symbolic sizes.
4. Containers are made by their own types; no module is imported for them. There is no compiled library.
"""

from __future__ import annotations

import ast
import io
import json
import keyword
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from onnxeq.errors import UnusableModel
from onnxeq_converters import archives

__all__ = ["refuse"]

_TRUST = "if you trust the file: --trust"

_SYMPY = frozenset(
    "Symbol Integer Rational Float Add Mul Pow Max Min Mod Abs Eq Ne Lt Le Gt Ge Equality Unequality StrictLessThan"
    " LessThan GreaterThan StrictGreaterThan And Or Not Piecewise ExprCondPair Tuple floor ceiling sign sqrt log exp"
    " FloorDiv ModularIndexing Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural"
    " FloatPow IntTrueDiv FloatTrueDiv ToFloat TruncToInt TruncToFloat RoundToInt RoundDecimal Identity"
    " IsNonOverlappingAndDenseIndicator BitwiseFn_bitwise_and BitwiseFn_bitwise_or BitwiseFn_bitwise_xor".split()
)
"""What a size's expression is built by."""

_GUARDS = frozenset("size stride storage_offset ndimension dim len abs min max isnan float int bool math inf".split())
"""What a guard may call or look at, beside the inputs ``L[...]``."""

_OPERATOR = frozenset(
    "add sub mul truediv floordiv mod pow neg pos abs eq ne lt le gt ge and_ or_ xor not_ invert lshift rshift getitem"
    " index matmul contains is_ is_not truth".split()
)
_TORCH = re.compile(r"torch\.(ops\.[\w.]+|_?sym_\w+|_check\w*|_C\._(functorch|set_grad)\w*)")
_FILES = ("torch.ops.aten.from_file", "torch.ops.aten.save", "torch.ops.aten.load")
"""Operators that open a file."""

_NAMES = ("name", "as_name", "forward_arg_names")
_OBJECTS = ("custom_obj_", "opaque_obj_")
_IMPORTS = ("__enum__", "default_factory_module")


_ENTRY = re.compile(
    r"([^/]+/)?(models/[^/]+\.json|data/(weights|constants)/\w+(\.pt|\.json)?|data/sample_inputs/[^/]+\.pt"
    r"|archive_format|archive_version|version|byteorder|\.data/(version|serialization_id|alignment)"
    r"|data/aotinductor/.+|serialized_\w+\.(json|pt)|extra/[\w./-]+|extra_files/[\w./-]+)"
)
"""What exporters of all versions write. torch finds its records whatever their case, and takes whatever lies in the
folder of models: what is called otherwise would be read and not looked at."""


def refuse(path: Path) -> None:
    """Makes sure that reading a program runs no code of the file's own.

    Raises:
        UnusableModel: It would; says what and where.
    """
    archives.check(path)
    with zipfile.ZipFile(path) as archive:
        entries = archive.namelist()
        for entry in entries:
            if not _ENTRY.fullmatch(entry):
                raise _refused(path, f"an entry that torch.export does not write, {entry!r}")
        for entry in entries:
            if "aotinductor/" in entry or entry.endswith((".so", ".dll", ".dylib")):
                raise _refused(path, f"a compiled library, {entry!r}")
        pickled: set[str] = set()
        for entry in entries:
            if entry.endswith(".json"):
                pickled |= _check_document(path, entry, archive.read(entry))
        for entry in entries:
            if entry.endswith(".pt") or any(entry.endswith(f"/{name}") for name in pickled):
                _check_tensors(path, entry, archive.read(entry))


def _refused(path: Path, what: str) -> UnusableModel:
    return UnusableModel(f"{path} holds {what}: reading it would run code", hint=_TRUST)


def _check_tensors(path: Path, entry: str, data: bytes) -> None:
    if not data:
        return
    try:
        torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the restricted reader does not take
        raise _refused(path, f"pickled objects in {entry!r}") from error


def _check_document(path: Path, entry: str, data: bytes) -> set[str]:
    """Holds a description to the rules; returns the names of the entries that it has torch unpickle."""
    try:
        document = json.loads(data)
        for key, value in _texts(document, ""):
            if what := _fault(key, value):
                raise _refused(path, f"{what} in {entry!r}")
        return set(_pickled(document))
    except (ValueError, RecursionError) as error:
        raise UnusableModel(f"{path}: its entry {entry!r} is no JSON", hint="it may be damaged") from error


def _pickled(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if value.get("use_pickle") and "path_name" in value:
            yield str(value["path_name"])
        for inner in value.values():
            yield from _pickled(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pickled(inner)


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text of a document, under the name that it is stored by."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        yield key, value


def _fault(key: str, text: str) -> str:
    shown = repr(text if len(text) <= 80 else f"{text[:80]}...")
    if key == "expr_str" and not _is_expression(text, _SYMPY):
        return f"the size {shown}"
    if key == "guards_code" and not _is_expression(text, _GUARDS):
        return f"the guard {shown}"
    if key in _NAMES and text and (keyword.iskeyword(text) or not re.fullmatch(r"[A-Za-z_][\w.]*", text)):
        return f"the name {shown}"
    if key == "path_name" and text.startswith(_OBJECTS):
        return f"the stored object {shown}"
    if key == "target" and not _is_operator(text):
        return f"a call of {shown}"
    return f"the container {shown}" if any(word in text for word in _IMPORTS) else ""


def _is_operator(text: str) -> bool:
    if text.startswith(("_operator.", "math.")):
        module, _, name = text.partition(".")
        return name in _OPERATOR if module == "_operator" else re.fullmatch(r"[a-z]\w*", name) is not None
    if "__" in text or text.startswith(_FILES):
        return False
    return _TORCH.fullmatch(text) is not None or re.fullmatch(r"[A-Za-z_]\w*", text) is not None


def _is_expression(text: str, known: frozenset[str]) -> bool:
    """Whether an expression is made of numbers, symbols, arithmetic, and calls of ``known``."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(_is_plain(node, known) for node in ast.walk(tree))


_PLAIN = (
    ast.Expression, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context, ast.BinOp, ast.UnaryOp,
    ast.BoolOp, ast.Compare, ast.Subscript, ast.Tuple, ast.List, ast.IfExp,
)  # fmt: skip


def _is_plain(node: ast.AST, known: frozenset[str]) -> bool:
    if isinstance(node, ast.Call):
        called = node.func
        return (isinstance(called, ast.Name) and called.id in known) or (
            isinstance(called, ast.Attribute) and called.attr in known
        )
    if isinstance(node, ast.Attribute):
        return node.attr in known
    if isinstance(node, ast.Name):
        return not node.id.startswith("__")
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str) or re.fullmatch(r"[\w.]*", node.value) is not None
    return isinstance(node, (*_PLAIN, ast.keyword))
