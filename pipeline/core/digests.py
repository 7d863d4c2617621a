"""Digests: the identity of everything Graftline handles. Always sha256, written as 64 hex digits."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any


def of_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def of_file(path: Path) -> str:
    """Digest of a file's bytes, read in blocks: memory does not grow with the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_code(module: ModuleType) -> str:
    """Digest of what a module's source does: another comment, docstring or layout is the same code.

    By its syntax tree, whose form is the interpreter's: another version of Python gives another digest.
    """
    tree = ast.parse(Path(str(module.__file__)).read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_remark(part)]
    return of_bytes(ast.dump(tree).encode())


def _is_remark(statement: ast.stmt) -> bool:
    """A docstring, or a text below what it explains."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def of_json(value: Any) -> str:
    """Digest of a JSON-able value; key order and whitespace do not matter."""
    return of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode())


def of_path(path: Path) -> str:
    """Digest of a file, or of a folder's relative names and contents in sorted order."""
    if path.is_file():
        return of_file(path)
    files = sorted(entry for entry in path.rglob("*") if entry.is_file())
    return of_json([(entry.relative_to(path).as_posix(), of_file(entry)) for entry in files])
