"""The champion, pinned to a file so that comparing with it is a function of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pipeline.core import digests
from pipeline.core.errors import WorkspaceError
from pipeline.core.files import Document

FOLDER = Path("state/champion")
"""Where pinned models lie in a workspace, each under its sha256."""


class ChampionPin(Document):
    """``state/champion.json``: who was champion when the run began; all None where there is none yet."""

    model: str = ""
    """Registered name."""
    version: int | None = None
    sha256: str | None = None
    """Of the champion's ONNX file."""
    profile: dict[str, Any] = {}
    """The profile of the data it was trained on."""

    @classmethod
    def empty(cls) -> Self:
        """Before there is a champion."""
        return cls()

    @property
    def title(self) -> str:
        """What people call it: ``digits v3``."""
        return f"{self.model} v{self.version}" if self.version else self.model or "champion"

    def file(self, workspace: Path) -> Path | None:
        """The pinned model's file, its digest checked; None where there is no champion.

        Raises:
            WorkspaceError: the file is missing, or its content is not what was pinned.
        """
        if self.sha256 is None:
            return None
        path = workspace / FOLDER / f"{self.sha256}.onnx"
        if not path.is_file():
            raise self._unusable(path, "no such file")
        if digests.of_file(path) != self.sha256:
            raise self._unusable(path, "a file with another digest")
        return path

    def _unusable(self, path: Path, found: str) -> WorkspaceError:
        return WorkspaceError(
            expected=f"the champion's model ({self.title}) at {path}",
            found=found,
            where="state/champion.json",
            remedy="Run 'graftline run', which fetches the champion from the registry again.",
        )
