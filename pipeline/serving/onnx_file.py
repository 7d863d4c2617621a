"""The exported model as an artefact: the bytes of one self-contained ONNX file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pipeline.core import digests
from pipeline.core.files import write_bytes

MB = 1e6


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX model with its weights inside; nothing is parsed until somebody asks."""

    content: bytes

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(path.read_bytes())

    def save(self, path: Path) -> None:
        write_bytes(path, self.content)

    @cached_property
    def digest(self) -> str:
        """sha256 of the file."""
        return digests.of_bytes(self.content)

    @property
    def size_mb(self) -> float:
        """Millions of bytes."""
        return len(self.content) / MB

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The file's metadata properties, JSON values decoded."""
        import onnx

        properties = onnx.load_model_from_string(self.content).metadata_props
        return {entry.key: decode_property(entry.value) for entry in properties}


def encode_property(value: Any) -> str:
    """ONNX metadata values are strings: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def decode_property(text: str) -> Any:
    """The inverse of :func:`encode_property`; text that is not a JSON list or object stays text."""
    return json.loads(text) if text[:1] in ("[", "{") else text
