"""What every step needs at hand, opened from ``(workspace, settings)``."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.redaction import redact
from pipeline.release import ownership
from pipeline.release.history import Action, Entry, History
from pipeline.release.signer import Signer
from pipeline.tracking.last_seen import LastSeen
from pipeline.tracking.registry import CHAMPION, PREVIOUS, Registry, Version, that_is
from pipeline.tracking.session import Session, open_session, resolve_uri

if TYPE_CHECKING:
    from pipeline.params import Settings


class Desk:
    """The registry, the hand-off folder and the history of one workspace; each is opened when first asked for."""

    def __init__(self, workspace: Path, settings: Settings) -> None:
        self.workspace, self.settings = workspace, settings
        self.model = settings.model

    def of(self, model: str) -> Desk:
        """This desk, or that of another model in the same workspace: `model:` in params.yaml may have been changed."""
        return self if model == self.model else Desk(self.workspace, self.settings.model_copy(update={"model": model}))

    @cached_property
    def handoff(self) -> Path:
        """The hand-off folder; a :class:`WorkspaceError` where it is another model's."""
        folder = self.workspace / self.settings.publish.handoff  # an absolute one stays as it is
        ownership.check(folder, self.workspace, self._owner)
        return folder

    @cached_property
    def claimed_handoff(self) -> Path:
        """The same, marked as this model's: for those who publish to it."""
        ownership.claim(self.handoff, self.workspace, self._owner)
        return self.handoff

    @property
    def _owner(self) -> ownership.Owner:
        return ownership.Owner(model=self.model, store=redact(self._uri), workspace=str(self.workspace.resolve()))

    @property
    def _uri(self) -> str:
        return resolve_uri(self.workspace, self.settings.tracking.uri)

    @cached_property
    def session(self) -> Session:
        return open_session(self.workspace, self.settings.tracking.uri, self.settings.tracking.experiment)

    @cached_property
    def registry(self) -> Registry:
        return Registry(self.session, self.model)

    def versions(self) -> list[Version]:
        """As the registry tells them, which is opened where somebody has written to it since it was last asked."""
        return LastSeen(self.workspace, self._uri, self.model).versions(lambda: self.registry.versions())

    def at(self, alias: str) -> Version | None:
        """The version an alias points at, or None."""
        return that_is(alias, self.versions())

    @cached_property
    def signer(self) -> Signer:
        return Signer(self.workspace, self.settings.publish.signing_key)

    @property
    def history(self) -> History:
        return History(self.workspace)

    @property
    def champion(self) -> int | None:
        return _number(self.at(CHAMPION))

    @property
    def previous(self) -> int | None:
        return _number(self.at(PREVIOUS))

    def shown(self, version: int) -> str:
        """How a version's folder is named to people: ``handoff/v1``."""
        return f"{self.settings.publish.handoff.rstrip('/')}/v{version}"

    def write_down(
        self, action: Action, version: Version, previous: int | None, reason: str, verdict_digest: str | None = None
    ) -> Entry:
        """Add a decision to the history."""
        return self.history.append(
            model=self.model,
            action=action,
            version=version.number,
            previous=previous,
            reason=reason,
            model_sha256=version.sha256,
            verdict_digest=verdict_digest,
        )


def _number(version: Version | None) -> int | None:
    return version.number if version else None
