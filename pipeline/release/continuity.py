"""A history goes on in the registry that it was written in.

Versions are numbers that the registry gives. In an empty one (a fresh clone without `.graftline/mlflow.db`, a tracking
address that was mistyped) they would begin at 1 again, under a history in which v1 is another model; and a challenger
would be compared with no champion at all, and promoted.
"""

from __future__ import annotations

from pipeline.core.errors import RegistryError
from pipeline.release import history
from pipeline.release._desk import Desk
from pipeline.tracking.registry import Version


def check(desk: Desk) -> None:
    """See that the registry has the model that the history calls champion.

    A number that it has skipped is a version that somebody has deleted.

    Raises:
        RegistryError: it does not go as far, or has another model under the number.
        StoreError: the tracking store does not answer.
    """
    champion = desk.history.last_champion(desk.model)
    if champion is None:
        return
    versions = desk.versions()
    there = {version.number: version.sha256 for version in versions}
    is_deleted = champion.version not in there and champion.version < max(there, default=0)
    if is_deleted or there.get(champion.version) == champion.model_sha256:
        return  # MLflow gives no number twice: one below the highest is nobody else's
    raise RegistryError(
        expected=f"{desk.model} v{champion.version}, champion since {champion.time[:19]}Z by {history.FILE}",
        found=_found(champion, versions),
        where=f"the registry at {desk.session.shown_uri}",
        remedy="Point tracking.uri, or MLFLOW_TRACKING_URI, at the registry that has it (a clone needs a shared one, "
        "or a copy of .graftline/mlflow.db and .graftline/mlartifacts). Or go on in this one: graftline promote "
        "VERSION makes one of its versions the champion; another `model` in params.yaml, or moving "
        f"{history.FILE} away, begins a new series.",
    )


def _found(champion: history.Entry, versions: list[Version]) -> str:
    if not versions:
        return f"no version of '{champion.model}' at all"
    same = next((version for version in versions if version.number == champion.version), None)
    if same is None:
        return ", ".join(str(version) for version in versions)
    return f"another model as {same}, sha256 {same.sha256[:12]}… for {champion.model_sha256[:12]}…"
