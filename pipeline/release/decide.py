"""From a verdict to a decision, and the one line that says how a run ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.catalog import CATALOG
from pipeline.core import digests
from pipeline.core.errors import WorkspaceError
from pipeline.gates._base import Finding, Verdict
from pipeline.release.history import Entry, History

Kind = Literal["promoted", "held", "unchanged"]


@dataclass(frozen=True)
class Judged:
    """What the stages left to decide on: the model file's identity and the verdict over it."""

    sha256: str
    verdict: Verdict

    @property
    def digest(self) -> str:
        """Identity of the judgement: which model, which gates, which passed; not how long anything took."""
        findings = sorted((finding.gate, finding.passed) for finding in self.verdict.findings)
        return digests.of_json({"model": self.sha256, "findings": findings})

    @property
    def reason(self) -> str:
        """Why it is promoted or held, in the gates' own words."""
        if self.verdict.passed:
            return f"all {len(self.verdict.findings)} gates passed"
        return "; ".join(f"{finding.gate}: {finding.why}" for finding in self.verdict.failed)


def judged(workspace: Path) -> Judged:
    """Read the verdict and digest the model.

    Raises:
        WorkspaceError: the stages have not got that far.
    """
    model, verdict = (workspace / CATALOG[name].path for name in ("model", "verdict"))
    missing = [path for path in (model, verdict) if not path.is_file()]
    if missing:
        raise WorkspaceError(
            expected="a model and a verdict over it",
            found=f"no {missing[0].relative_to(workspace)}",
            where=str(workspace),
            remedy="Bring the stages up to date first: graftline run (or dvc repro).",
        )
    return Judged(digests.of_file(model), Verdict.load(verdict))


def verdict_digest(workspace: Path) -> str:
    """Identity of what is to be decided in ``workspace``; equal digests need no second decision."""
    return judged(workspace).digest


def decision(workspace: Path, model: str) -> Entry | None:
    """What was decided on this model file with this verdict; None where nothing was, or there is none."""
    try:
        found = judged(workspace)
    except (WorkspaceError, ValueError):  # not there, or cut off in the middle
        return None
    return History(workspace).decided(model, found.sha256, found.digest)


@dataclass(frozen=True)
class Outcome:
    """How a run ended. ``version`` is the one it was about, ``champion`` the one in force now."""

    kind: Kind
    model: str
    version: int | None
    champion: int | None
    previous: int | None
    reason: str
    handoff: str | None
    """Folder of the champion's bundle, as people write it: ``handoff/v1``."""
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    """Names of the gates."""

    @property
    def line(self) -> str:
        """``Gates: 9 passed, 0 failed · champion digits v1 · handoff/v1``"""
        return " · ".join([self._gates, *self._event, self._champion, *([self.handoff] if self.handoff else [])])

    @property
    def _gates(self) -> str:
        names = f" ({', '.join(self.failed)})" if self.failed else ""
        return f"Gates: {len(self.passed)} passed, {len(self.failed)} failed{names}"

    @property
    def _event(self) -> list[str]:
        if self.kind == "held":
            return [f"held {self.model} v{self.version}"]
        return ["nothing changed"] if self.kind == "unchanged" else []

    @property
    def _champion(self) -> str:
        return f"champion {self.model} v{self.champion}" if self.champion else "no champion yet"

    def as_json(self) -> str:
        return json.dumps({**self.__dict__, "line": self.line}, ensure_ascii=False)


def outcome(
    kind: Kind,
    judged: Judged,
    *,
    model: str,
    version: int | None,
    champion: int | None,
    previous: int | None,
    handoff: str | None,
    reason: str | None = None,
) -> Outcome:
    """An :class:`Outcome` with the verdict's gates; the reason is the verdict's unless given."""
    return Outcome(
        kind=kind,
        model=model,
        version=version,
        champion=champion,
        previous=previous,
        reason=reason or judged.reason,
        handoff=handoff,
        passed=_names(judged.verdict.findings, passed=True),
        failed=_names(judged.verdict.findings, passed=False),
    )


def _names(findings: list[Finding], *, passed: bool) -> tuple[str, ...]:
    return tuple(finding.gate for finding in findings if finding.passed == passed)
