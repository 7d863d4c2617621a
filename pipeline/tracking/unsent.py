"""What a run could not send to tracking: kept on disk, and sent by the next run.

``.graftline/unsent/<key>/`` holds ``about.json`` and copies of the files that a record is read from, under the names
that they have in the workspace; it is put in place whole. It is sent with the functions that send a living run's
record, and those add nothing twice: so it may be sent again after a kill.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.core.files import Document, replacing
from pipeline.core.redaction import redact, redacted
from pipeline.tracking import runs
from pipeline.tracking.session import Session

FOLDER = ".graftline/unsent"
ABOUT = "about.json"


class About(Document):
    """A run that ended while tracking did not answer."""

    key: str
    run_id: str | None
    """None: it could not even be opened."""
    model: str
    started_ms: int
    ended_ms: int
    """Since 1970, as MLflow counts."""
    failed: bool
    tags: dict[str, str]
    """Its outcome."""
    code: dict[str, str]
    """The workspace's git revision at that time."""
    params: dict[str, Any]


def keep(
    workspace: Path,
    *,
    run_id: str | None,
    model: str,
    started_s: float,
    failed: bool,
    tags: Mapping[str, object],
    params: Mapping[str, Any],
) -> Path:
    """Keep the record of a run, from the workspace's files as they are now; returns the folder. Without secrets."""
    about = About(
        key=uuid.uuid4().hex,
        run_id=run_id,
        model=model,
        started_ms=int(started_s * 1000),
        ended_ms=int(time.time() * 1000),
        failed=failed,
        tags={name: redact(str(value)) for name, value in tags.items()},
        code=runs.code(workspace),
        params=redacted(dict(params)),
    )
    place = workspace / FOLDER / about.key
    with replacing(place) as fresh:
        fresh.mkdir()
        for path in runs.recorded_files(workspace):
            copy = fresh / path.relative_to(workspace)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        (fresh / ABOUT).write_text(about.model_dump_json(indent=2), encoding="utf-8")
    return place


def waiting(workspace: Path) -> list[Path]:
    """The folders that wait to be sent, in the order in which the runs ended."""
    return [place for _, place in sorted(_found(workspace), key=lambda pair: (pair[0].ended_ms, pair[0].key))]


def send(session: Session) -> list[str]:
    """Send what waits, each whole before it is removed; returns the ids of the MLflow runs it went to.

    Raises:
        ServiceError: the store does not answer; what was not sent stays.
    """
    sent = []
    for place in waiting(session.workspace):
        about = About.load(place / ABOUT)
        run_id = about.run_id if about.run_id and runs.is_known(session, about.run_id) else _opened(session, about)
        kept = dataclasses.replace(session, workspace=place)
        runs.record(kept, run_id, about.params)
        runs.finish(kept, run_id, failed=about.failed, tags=about.tags, ended_ms=about.ended_ms)
        runs.forget_open(session.workspace, about.run_id)
        shutil.rmtree(place)
        sent.append(run_id)
    return sent


def _opened(session: Session, about: About) -> str:
    return runs.create(session, about.model, key=about.key, code=about.code, started_ms=about.started_ms)


def _found(workspace: Path) -> Iterator[tuple[About, Path]]:
    """A folder without a whole ``about.json`` is none of ours: they are put in place whole."""
    for place in sorted((workspace / FOLDER).glob("*")):
        try:
            yield About.load(place / ABOUT), place
        except (OSError, ValidationError):
            continue
