"""Who was champion when, and why: ``state/history.jsonl``, one JSON object per line, only ever appended to.

Order is the ``sequence``, never the clock: clocks are set back. A line that was cut short by a crash or a power failure
is skipped and reported; the next entry starts on a line of its own.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import ValidationError

from pipeline.core.files import Document

FILE = "state/history.jsonl"
LOCK = ".graftline/history.lock"

Action = Literal["promoted", "held", "rolled_back"]


class Entry(Document):
    """One decision. ``version`` is the one it is about; after a rollback, the one brought back."""

    sequence: int
    time: str
    """UTC, ISO 8601; for people."""
    model: str
    action: Action
    version: int
    previous: int | None
    """Champion before the decision."""
    reason: str
    model_sha256: str
    verdict_digest: str | None = None
    """None where a person decided."""
    actor: str

    @property
    def line(self) -> str:
        words = {"promoted": "promoted", "held": "held", "rolled_back": "rolled back to"}[self.action]
        before = f" (before: v{self.previous})" if self.previous and self.action != "held" else ""
        what = f"{words} {self.model} v{self.version}{before}"
        return f"{self.sequence:>4}  {self.time[:19]}Z  {what} · {self.reason} · {self.actor}"

    @property
    def champion_line(self) -> str:
        """``digits v2 since 2026-03-01T03:00:12Z · all 9 gates passed``, of a decision that made a champion."""
        return f"{self.model} v{self.version} since {self.time[:19]}Z · {self.reason}"


class History:
    """The decisions of one workspace, oldest first. Reads the file when first asked."""

    def __init__(self, workspace: Path) -> None:
        self.path = workspace / FILE
        self._lock = workspace / LOCK

    @cached_property
    def _parsed(self) -> tuple[list[Entry], list[int]]:
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""
        return _parse(text.split("\n"))

    @property
    def entries(self) -> list[Entry]:
        return self._parsed[0]

    @property
    def next_sequence(self) -> int:
        """The number that the next entry gets."""
        return max((entry.sequence for entry in self.entries), default=0) + 1

    @property
    def unreadable(self) -> list[int]:
        """Numbers, from 1, of lines that are not whole entries."""
        return self._parsed[1]

    def append(
        self,
        *,
        model: str,
        action: Action,
        version: int,
        previous: int | None,
        reason: str,
        model_sha256: str,
        verdict_digest: str | None = None,
    ) -> Entry:
        """Write one more entry and wait until it is on the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock):
            self._forget()
            entry = Entry(
                sequence=self.next_sequence,
                time=datetime.now(UTC).isoformat(timespec="seconds"),
                model=model,
                action=action,
                version=version,
                previous=previous,
                reason=reason,
                model_sha256=model_sha256,
                verdict_digest=verdict_digest,
                actor=actor(),
            )
            _append_line(self.path, entry.model_dump_json())
            self._forget()
        return entry

    def decided(self, model: str, model_sha256: str, verdict_digest: str) -> Entry | None:
        """The last decision on exactly this model file with exactly this verdict, if there was one."""
        same = (model, model_sha256, verdict_digest)
        found = [entry for entry in self.entries if (entry.model, entry.model_sha256, entry.verdict_digest) == same]
        return found[-1] if found else None

    def champions(self, model: str) -> list[int]:
        """The champions that a chain of rollbacks would go through, the present one last."""
        stack: list[int] = []
        for entry in (entry for entry in self.entries if entry.model == model):
            if entry.action == "rolled_back" and stack:
                stack.pop()
            if entry.action != "held" and stack[-1:] != [entry.version]:
                stack.append(entry.version)
        return stack

    def is_overruled(self, model: str, version: int | None) -> bool:
        """Whether somebody has promoted the version since its gates failed."""
        about = [entry for entry in self.entries if (entry.model, entry.version) == (model, version)]
        return bool(about) and about[-1].action == "promoted"

    def replaced_by(self, decided: Entry) -> Entry | None:
        """The first decision after ``decided`` that made another version champion, if there was one."""
        later = (entry for entry in self.entries if entry.sequence > decided.sequence and entry.model == decided.model)
        return next((entry for entry in later if entry.action != "held" and entry.version != decided.version), None)

    def last_champion(self, model: str | None = None) -> Entry | None:
        """The last decision that made a version champion, or None where nothing was ever promoted.

        Without ``model`` it is the last champion under any name this workspace's model has had.
        """
        chosen = [entry for entry in self.entries if entry.action != "held" and model in (None, entry.model)]
        return chosen[-1] if chosen else None

    def lines(self) -> list[str]:
        """For people, oldest first; says so where lines could not be read."""
        warnings = [f"      line {number} of {FILE} was cut short and is skipped" for number in self.unreadable]
        return [entry.line for entry in self.entries] + warnings

    def _forget(self) -> None:
        self.__dict__.pop("_parsed", None)


def actor() -> str:
    """Who decides: ``GRAFTLINE_ACTOR`` (a service, say), else ``user@machine``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"uid {os.getuid()}"  # a container's user without a name
    return os.environ.get("GRAFTLINE_ACTOR") or f"{user}@{platform.node()}"


def _parse(lines: Iterable[str]) -> tuple[list[Entry], list[int]]:
    entries, unreadable = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entries.append(Entry.model_validate(json.loads(line)))
        except (json.JSONDecodeError, ValidationError):
            unreadable.append(number)
    return sorted(entries, key=lambda entry: entry.sequence), unreadable


def _append_line(path: Path, line: str) -> None:
    """Append in one write and flush to disk; a torn last line is closed first, so that it spoils nothing but itself."""
    is_new = not path.exists()
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
        torn = end > 0 and file.read(1) != b"\n"
        file.write(b"\n" * torn + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the file's name, too, must survive a power cut
        finally:
            os.close(folder)
