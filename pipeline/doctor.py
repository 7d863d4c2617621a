"""``graftline doctor``: what a run will need, checked before the night it runs in."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline import params
from pipeline.core import cores
from pipeline.core.context import Context
from pipeline.core.errors import GraftlineError, InputError, ParamsError, ServiceError
from pipeline.graph import dvcfile, outside, preflight
from pipeline.graph.table import BY_NAME, STAGES
from pipeline.params import Settings, no_workspace
from pipeline.scale import engine as scale

NEEDED_FREE_GB = 2.0
PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "mlflow", "prefect", "dvc", "great-expectations")


class Finding(NamedTuple):
    """``broken`` stops a run, ``note`` does not."""

    state: Literal["fine", "note", "broken"]
    what: str
    remedy: str = ""

    @property
    def line(self) -> str:
        mark = {"fine": "✓", "note": "·", "broken": "✗"}[self.state]
        return f"{mark} {self.what}" + (f"\n    → {self.remedy}" if self.remedy else "")


def examine(workspace: Path) -> list[Finding]:
    """All checks, in an order in which the first broken one explains the rest."""
    if not workspace.is_dir():
        raise no_workspace(workspace)
    findings = [*_machine(workspace)]
    try:
        settings = params.load(workspace)
    except GraftlineError as error:
        return [*findings, Finding("broken", f"params.yaml: {error}")]
    checks: tuple[Callable[[Path, Settings], Iterator[Finding]], ...] = (
        _layout,
        _places,
        _images,
        _weights,
        _runtime,
        _signing,
        _tracking,
        _prefect,
    )
    return [
        *findings,
        Finding("fine", "params.yaml is valid"),
        *(f for check in checks for f in check(workspace, settings)),
    ]


def _machine(workspace: Path) -> Iterator[Finding]:
    yield Finding("fine", f"Python {sys.version.split()[0]}, {cores.usable()} cores")
    yield Finding("fine", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES))
    yield Finding("fine", f"computes on {_device()}")
    free_gb = shutil.disk_usage(workspace).free / 1e9
    roomy = free_gb >= NEEDED_FREE_GB
    yield Finding(
        "fine" if roomy else "broken",
        f"{free_gb:.1f} GB free",
        "" if roomy else f"Make room: a run needs {NEEDED_FREE_GB:.0f} GB; `dvc gc --workspace` frees old versions.",
    )
    if not os.access(workspace, os.W_OK):
        yield Finding("broken", f"{workspace} cannot be written to", "Change its owner or mode.")
    if shutil.which("git") is None:
        yield Finding("broken", "git is not installed", "Install it; DVC and the run's revision need it.")


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"CUDA ({torch.cuda.get_device_name()})"
    return "MPS" if torch.backends.mps.is_available() else "the CPU (no CUDA or MPS here)"


def _layout(workspace: Path, settings: Settings) -> Iterator[Finding]:
    if not (workspace / ".dvc").is_dir():
        yield Finding("broken", "DVC is not initialised here", "dvc init")
    in_step = dvcfile.in_step(workspace, settings)
    yield (
        Finding("fine", "dvc.yaml is in step")
        if in_step
        else Finding("note", "dvc.yaml is out of step; a run mends it")
    )


def _places(workspace: Path, settings: Settings) -> Iterator[Finding]:
    """The images, suites and checkpoint that params.yaml names."""
    for stage in STAGES:
        try:
            outside.check(workspace, stage, settings)
        except InputError as error:
            yield Finding("broken", f"{error.where}: {error.found}", error.remedy)
        else:
            yield from (Finding("fine", f"{key}: {path}") for key, path, _ in outside.places(stage, settings))


def _images(workspace: Path, settings: Settings) -> Iterator[Finding]:
    """Which images and classes there are, by their names; whether each can be read, a run looks."""
    from pipeline.stages import ingest

    if not _is_there(workspace, "ingest", settings):
        return
    try:
        for line in ingest.listed(settings.ingest, Context(workspace=workspace, seed=settings.seed)):
            yield Finding("fine", line)
    except InputError as error:
        yield _fault(error)


def _weights(workspace: Path, settings: Settings) -> Iterator[Finding]:
    """Whether checkpoints are what the backbone needs, the strategy can work on it, and there is a source to learn
    from."""
    from pipeline.stages import backbone

    for check in (preflight.check_source, preflight.check_strategy):
        try:
            check(settings)
        except InputError as error:
            yield _fault(error)
    try:
        if _is_there(workspace, "backbone", settings):
            for line in backbone.looked_at(settings.backbone, Context(workspace=workspace, seed=settings.seed)):
                yield Finding("fine", line)
    except InputError as error:
        yield _fault(error)
    except ServiceError as error:
        yield Finding("broken", f"backbone.weights: {error}")


def _is_there(workspace: Path, stage: str, settings: Settings) -> bool:
    """Where something is missing, :func:`_places` has said so."""
    try:
        outside.check(workspace, BY_NAME[stage], settings)
    except InputError:
        return False
    return True


def _fault(error: InputError) -> Finding:
    return Finding("broken", f"expected {error.expected}; found {error.found} ({error.where})", error.remedy)


def _runtime(workspace: Path, settings: Settings) -> Iterator[Finding]:
    from pipeline.core.device import choose
    from pipeline.release.notify import address

    try:
        choose(settings.runtime.device)
    except (GraftlineError, RuntimeError) as error:
        yield Finding("broken", f"runtime.device: {error}", "Set runtime.device to auto.")
    try:
        scale.check(settings.scale)
    except InputError as error:
        yield Finding("broken", f"{error.where}: {error.found}", error.remedy)
    try:
        address(settings.notify)
    except ParamsError as error:
        yield Finding("broken", f"notify.webhook: expected {error.expected}; found {error.found}", error.remedy)


def _signing(workspace: Path, settings: Settings) -> Iterator[Finding]:
    from pipeline.serving import signing_key

    named = settings.publish.signing_key
    try:
        signing_key.check(workspace, named)
    except InputError as error:
        yield Finding("broken", f"{error.where}: {error.found}", error.remedy)
    else:
        yield Finding("fine", f"bundles are signed with {named or 'the key of this workspace'}")


def _tracking(workspace: Path, settings: Settings) -> Iterator[Finding]:
    from pipeline.release import steps
    from pipeline.tracking import session

    try:
        opened = session.open_session(workspace, settings.tracking.uri, settings.tracking.experiment)
        yield Finding("fine", f"tracking store answers: {opened.shown_uri}")
        steps.check_continuity(workspace, settings)
    except InputError as error:
        yield _fault(error)
    except GraftlineError as error:
        yield Finding("broken", f"tracking: {error}", "Start that server (make servers), or mend tracking.uri.")


def _prefect(workspace: Path, settings: Settings) -> Iterator[Finding]:
    url = os.environ.get("PREFECT_API_URL")
    if url is None:
        yield Finding(
            "note", "no PREFECT_API_URL: each run starts a server of its own (seconds); `make servers` keeps one"
        )
        return
    import httpx

    try:
        httpx.get(f"{url}/health", timeout=5).raise_for_status()
    except httpx.HTTPError as error:
        yield Finding(
            "broken", f"no Prefect server at {url} ({type(error).__name__})", "Start it, or unset PREFECT_API_URL."
        )
    else:
        yield Finding("fine", f"Prefect server answers at {url}")
