"""One MLflow run per flow run: what went in, what came out, what it cost.

:func:`start` opens it, :class:`LiveCurves` feeds it while the network trains, :func:`record` writes everything the
stages left behind, :func:`finish` closes it. What is logged is read from the workspace's files, never computed here.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.catalog import CATALOG
from pipeline.core import digests
from pipeline.core.files import write_text
from pipeline.core.redaction import redact, redacted
from pipeline.tracking.session import Session, asking_mlflow

COSTS = ".graftline/costs"
"""One JSON file per stage: ``{stage, seconds, peak_mb, …}``."""

OPENING = ".graftline/opening_run"
"""Key of the run that is being opened; more than for a moment where the store's answer was lost."""

KEY_TAG = "graftline.key"
OPEN = ".graftline/open_runs.json"
"""Ids of the runs that this workspace has opened and not closed: more than the present one's after a kill only."""

REPORTS = (
    "metrics",
    "latency",
    "parity",
    "validation",
    "ranking",
    "domains",
    "drift",
    "training",
    "trials",
    "robustness",
    "explanations",
    "verdict",
    "predictions",
    "plots",
)
PAGE = "report"
CURVE_AXES = ("phase", "epoch", "step")

_FORBIDDEN = re.compile(r"[^A-Za-z0-9_\-. :/]")
"""What MLflow does not take in a key."""

_LONGEST_KEY, _LONGEST_VALUE, _BATCH = 250, 6000, 100


def start(session: Session, model: str) -> str:
    """Open a run and return its id. Where an earlier attempt's answer was lost, it is the run of that attempt."""
    opening = session.workspace / OPENING
    key = opening.read_text(encoding="utf-8") if opening.is_file() else uuid.uuid4().hex
    write_text(opening, key)
    run_id = create(session, model, key=key, code=code(session.workspace), started_ms=int(time.time() * 1000))
    _keep_open(session.workspace, {*open_runs(session.workspace), run_id})
    opening.unlink(missing_ok=True)
    return run_id


@asking_mlflow("start a run")
def create(session: Session, model: str, *, key: str, code: Mapping[str, str], started_ms: int) -> str:
    """The run with this key, made if there is none; returns its id."""
    found = session.client.search_runs([session.experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
    if found:
        return found[0].info.run_id
    tags = {"model": model, "mlflow.source.name": "graftline", "mlflow.source.type": "JOB", KEY_TAG: key, **code}
    name = f"{model} {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(started_ms / 1000))}"
    run = session.client.create_run(session.experiment_id, start_time=started_ms, tags=tags, run_name=name)
    return run.info.run_id


@asking_mlflow("find a run")
def is_known(session: Session, run_id: str) -> bool:
    """Does this store know the run, and has nobody deleted it? It may be another store by now."""
    from mlflow import MlflowException

    try:
        run = session.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return run.info.lifecycle_stage == "active"


def open_runs(workspace: Path) -> set[str]:
    """Ids of the runs that were started in this workspace and not yet closed; no store is asked."""
    path = workspace / OPEN
    with contextlib.suppress(FileNotFoundError, ValueError):
        return set(json.loads(path.read_text(encoding="utf-8")))
    return set()


@asking_mlflow("close the runs that were killed")
def close_killed(session: Session) -> list[str]:
    """Close every run that this workspace left open, as killed; returns the ids of those that still counted as running.

    Only while no run of this workspace is at work. A run that the store does not know (it is another store), or that
    somebody has deleted, is forgotten.
    """
    from mlflow import MlflowException

    closed = []
    for run_id in sorted(open_runs(session.workspace)):
        try:
            info = session.client.get_run(run_id).info
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            continue
        if info.status == "RUNNING" and info.lifecycle_stage == "active":
            session.client.set_tag(run_id, "outcome", "killed")
            session.client.set_terminated(run_id, "KILLED")
            closed.append(run_id)
    _keep_open(session.workspace, set())
    return closed


@asking_mlflow("record the run")
def record(session: Session, run_id: str, params: Mapping[str, Any]) -> None:
    """Log params, metrics, curves, reports, digests and costs of the workspace as it is now.

    Reports that are not there are left out, so that a run that failed half way keeps what it has. Calling it twice
    adds nothing.
    """
    workspace = session.workspace
    _log_params(session, run_id, redacted(dict(params)))
    _log_metrics(session, run_id, {**_reported_numbers(workspace), **_costs(workspace)})
    training = _read(workspace, "training")
    log_curves(session, run_id, training.get("history", []))
    _log_candidates(session, run_id, training.get("candidates", []))
    _log_files(session, run_id, redacted(dict(params)))
    tag(session, run_id, {**_data_digests(workspace), **_verdict(workspace)})


def _log_candidates(session: Session, run_id: str, candidates: Sequence[Mapping[str, Any]]) -> None:
    """What ``auto`` tried, as a table that MLflow shows: one row per strategy and seed, guards in one cell."""
    if not candidates:
        return
    rows = [{**row, "guards": json.dumps(row.get("guards", {}))} for row in candidates]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "candidates.json"
        split = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        table.write_text(json.dumps(split), encoding="utf-8")
        session.client.log_artifact(run_id, str(table), "tables")
    shown = [{"path": "tables/candidates.json", "type": "table"}]
    session.client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps(shown))  # as log_table does, which appends


@asking_mlflow("close the run")
def finish(
    session: Session,
    run_id: str,
    *,
    failed: bool = False,
    tags: Mapping[str, object] | None = None,
    ended_ms: int | None = None,
) -> None:
    """Close the run, with the page for people and last tags such as the outcome."""
    page = session.workspace / PAGE
    if page.is_dir() and not failed:
        session.client.log_artifacts(run_id, str(page), "report")
    tag(session, run_id, tags or {})
    session.client.set_terminated(run_id, "FAILED" if failed else "FINISHED", end_time=ended_ms)
    forget_open(session.workspace, run_id)


@asking_mlflow("tag the run")
def tag(session: Session, run_id: str, tags: Mapping[str, object]) -> None:
    for key, value in tags.items():
        session.client.set_tag(run_id, key, redact(str(value)))


@asking_mlflow("log the curves")
def log_curves(session: Session, run_id: str, history: Sequence[Mapping[str, Any]]) -> None:
    """One point per epoch and figure (``curve/val_loss``, …) with the row's position, from 1, as the step.

    Steps that the run already has, from :class:`LiveCurves` or an earlier call, are left as they are.
    """
    points = [
        (f"curve/{_key(name)}", value, step)
        for step, row in enumerate(history, start=1)
        for name, value in _numbers(row)
        if name not in CURVE_AXES
    ]
    have = {
        (key, metric.step)
        for key in {key for key, _, _ in points}
        for metric in session.client.get_metric_history(run_id, key)
    }
    _log_points(session, run_id, [point for point in points if (point[0], point[2]) not in have])


def read_report(session: Session, run_id: str, artefact: str) -> dict[str, Any]:
    """A JSON report as a run kept it; empty where the run or the report is gone."""
    from mlflow import MlflowException
    from mlflow.artifacts import download_artifacts

    name = f"reports/{Path(CATALOG[artefact].path).name}"
    with tempfile.TemporaryDirectory() as scratch:
        try:
            kept = download_artifacts(run_id=run_id, artifact_path=name, dst_path=scratch, tracking_uri=session.uri)
        except (MlflowException, OSError):
            return {}
        return json.loads(Path(kept).read_text(encoding="utf-8"))


class LiveCurves:
    """Follows ``live.jsonl`` while training writes it, one JSON row per epoch, and logs every new row.

    >>> curves = LiveCurves(session, run_id, scratch / "live.jsonl")    # doctest: +SKIP
    >>> while training: curves.update(); time.sleep(1)                  # doctest: +SKIP

    A missing file and a half-written last line are waited for.
    """

    def __init__(self, session: Session, run_id: str, path: Path) -> None:
        self.session, self.run_id, self.path = session, run_id, path
        self._logged = 0

    def update(self) -> int:
        """Log the rows that are new since the last call; return how many."""
        rows = self._rows()
        if len(rows) > self._logged:
            log_curves(self.session, self.run_id, rows)
        fresh, self._logged = len(rows) - self._logged, len(rows)
        return max(fresh, 0)

    def _rows(self) -> list[dict[str, Any]]:
        try:
            whole, _, _ = self.path.read_text(encoding="utf-8").rpartition("\n")
        except FileNotFoundError:
            return []  # not begun, or ended: the stage removes its scratch folder
        return [json.loads(line) for line in whole.splitlines() if line.strip()]


# -- what is logged ----------------------------------------------------------------------------------------------------


def _log_params(session: Session, run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    have = session.client.get_run(run_id).data.params
    flat = {_key(name): str(value)[:_LONGEST_VALUE] for name, value in flatten(params)}
    fresh = [Param(name, value) for name, value in flat.items() if name not in have]
    for part in _batches(fresh):
        session.client.log_batch(run_id, params=part)


def _log_metrics(session: Session, run_id: str, metrics: Mapping[str, float]) -> None:
    have = session.client.get_run(run_id).data.metrics
    fresh = [(_key(name), value, 0) for name, value in metrics.items() if have.get(_key(name)) != value]
    _log_points(session, run_id, fresh, after_ms=_last_ms(session, run_id, [key for key, _, _ in fresh if key in have]))


def _last_ms(session: Session, run_id: str, keys: Sequence[str]) -> int:
    """When these were logged last; 0 where there are none. MLflow shows the figure with the latest time: one that
    replaces another must be later, also on a clock that was set back."""
    return max((point.timestamp for key in keys for point in session.client.get_metric_history(run_id, key)), default=0)


def _log_points(session: Session, run_id: str, points: Sequence[tuple[str, float, int]], *, after_ms: int = 0) -> None:
    from mlflow.entities import Metric

    now_ms = max(int(time.time() * 1000), after_ms + 1)
    for part in _batches([Metric(name, value, now_ms, step) for name, value, step in points]):
        session.client.log_batch(run_id, metrics=part)


def _log_files(session: Session, run_id: str, params: Mapping[str, Any]) -> None:
    """Reports as they are; ``params.json`` and ``dvc.lock`` through the redactor, for they may hold URLs."""
    log = session.client
    for path in [session.workspace / CATALOG[name].path for name in REPORTS]:
        if path.is_dir():
            log.log_artifacts(run_id, str(path), f"reports/{path.name}")
        elif path.is_file():
            log.log_artifact(run_id, str(path), "reports")
    texts = {"params.json": json.dumps(params, indent=2, default=str)}
    lock = session.workspace / "dvc.lock"
    if lock.is_file():
        texts["dvc.lock"] = redact(lock.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        log.log_artifacts(run_id, folder)


def _reported_numbers(workspace: Path) -> dict[str, float]:
    """Every number in metrics.json (as ``accuracy``), and those of two more reports (as ``latency/p50_ms``)."""
    others = {
        f"{report}/{name}": value
        for report in ("latency", "robustness")
        for name, value in _numbers(_read(workspace, report))
    }
    return {**dict(_numbers(_read(workspace, "metrics"))), **others}


def _costs(workspace: Path) -> dict[str, float]:
    """Seconds and peak memory of each stage's last execution."""
    costs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((workspace / COSTS).glob("*.json"))]
    return {
        f"cost/{cost['stage']}/{figure}": float(cost[figure])
        for cost in costs
        for figure in ("seconds", "peak_mb")
        if figure in cost
    }


def _verdict(workspace: Path) -> dict[str, object]:
    verdict = _read(workspace, "verdict")
    if not verdict:
        return {}
    failed = [finding["gate"] for finding in verdict["findings"] if not finding["passed"]]
    return {"verdict": "passed" if verdict["passed"] else "failed", "gates_failed": ", ".join(failed)}


def recorded_files(workspace: Path) -> list[Path]:
    """Every file that :func:`record` and :func:`finish` read."""
    names = (*REPORTS, "source_manifest", "target_manifest")
    places = [workspace / place for place in (*(CATALOG[name].path for name in names), "dvc.lock", COSTS, PAGE)]
    inside = [path for place in places if place.is_dir() for path in place.rglob("*")]
    return sorted(path for path in {*places, *inside} if path.is_file())


def data_digest(workspace: Path) -> str:
    """Identity of the usable images, labels and splits of both domains."""
    return digests.of_json(_data_digests(workspace))


def _data_digests(workspace: Path) -> dict[str, str]:
    names = ("source_manifest", "target_manifest")
    paths = {name: workspace / CATALOG[name].path for name in names}
    return {f"data/{name}_sha256": digests.of_file(path) for name, path in paths.items() if path.is_file()}


def code(workspace: Path) -> dict[str, str]:
    """The workspace's git revision, and whether the tree differs from it; nothing outside a repository."""
    revision = ask_git(workspace, "rev-parse", "HEAD")
    if not revision:
        return {}
    dirty = bool(ask_git(workspace, "status", "--porcelain", "--untracked-files=no"))
    return {"mlflow.source.git.commit": revision, "git_dirty": str(dirty).lower()}


def forget_open(workspace: Path, run_id: str | None) -> None:
    """The run is closed, or will be by what is kept of it."""
    _keep_open(workspace, open_runs(workspace) - {run_id or ""})


def _keep_open(workspace: Path, run_ids: set[str]) -> None:
    write_text(workspace / OPEN, json.dumps(sorted(run_ids)))


def ask_git(workspace: Path, *arguments: str) -> str:
    """The answer of git; empty where git is not installed, does not know, or hangs."""
    try:
        done = subprocess.run(["git", "-C", str(workspace), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""  # no git on this machine, or one that hangs: the run is still worth recording
    return done.stdout.strip() if done.returncode == 0 else ""


# -- shapes ------------------------------------------------------------------------------------------------------------


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted keys; a list, and an empty mapping below the top, is one value.

    >>> list(flatten({"train": {"batch_size": 64}}))
    [('train.batch_size', 64)]
    """
    if isinstance(value, Mapping) and (value or not prefix):
        for key, item in value.items():
            yield from flatten(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _numbers(report: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The finite numbers of a report by dotted key; booleans, texts and lists are not metrics."""
    return [
        (name, float(value))
        for name, value in flatten(report)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    ]


def _read(workspace: Path, artefact: str) -> dict[str, Any]:
    path = workspace / CATALOG[artefact].path
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _key(name: str) -> str:
    return _FORBIDDEN.sub("_", name)[:_LONGEST_KEY]


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(items), _BATCH):
        yield items[first : first + _BATCH]
