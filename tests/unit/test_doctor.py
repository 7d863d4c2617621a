"""``graftline doctor``: what stops a run is found before the run."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from typer.testing import CliRunner

from pipeline import doctor, params
from pipeline.cli import main  # noqa: F401 - adds the commands to the app
from pipeline.cli.app import app
from pipeline.core.errors import ServiceError, WorkspaceError
from pipeline.graph import dvcfile
from pipeline.release.history import History

PARAMS = """\
ingest:
  target: {name: image_folder, path: photos}
  source: null
backbone: {name: small_cnn, weights: {file: weights.pt}}
tracking: {uri: "sqlite:///.graftline/mlflow.db"}
"""


class Opened:
    shown_uri = "sqlite:///mlflow.db"


@pytest.fixture(autouse=True)
def no_servers(monkeypatch):
    """The tracking store answers; opening a real one takes seconds. No Prefect server is set."""
    monkeypatch.setattr("pipeline.tracking.session.open_session", lambda *_: Opened())
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.fixture
def workspace(tmp_path) -> Path:
    """All that the params ask for is there."""
    for folder in ("photos", ".dvc"):
        (tmp_path / folder).mkdir()
    (tmp_path / "weights.pt").write_bytes(b"not looked at here")
    (tmp_path / "params.yaml").write_text(PARAMS)
    dvcfile.write(tmp_path, params.load(tmp_path))
    return tmp_path


def broken(workspace: Path) -> list[doctor.Finding]:
    return [finding for finding in doctor.examine(workspace) if finding.state == "broken"]


def test_everything_fine(workspace):
    """Nothing is broken, and each line says what was looked at."""
    findings = doctor.examine(workspace)
    said = "\n".join(finding.line for finding in findings)

    assert [] == [finding for finding in findings if finding.state == "broken"]
    for part in (
        "params.yaml is valid",
        "dvc.yaml is in step",
        "ingest.target.path: photos",
        "bundles are signed with the key of this workspace",
        "backbone.weights.file: weights.pt",
    ):
        assert f"✓ {part}" in said
    assert "tracking store answers" in said


def test_a_missing_data_folder(workspace):
    """The path, and both ways to mend it."""
    (workspace / "photos").rmdir()
    (finding,) = broken(workspace)

    assert "ingest.target.path in params.yaml: 'photos', which does not exist" == finding.what
    assert "dvc pull" in finding.remedy


def test_a_registry_that_does_not_know_the_champion(workspace, monkeypatch):
    """As a run would find it: what the history says, and how to go on."""
    History(workspace).append(
        model="digits", action="promoted", version=7, previous=6, reason="", model_sha256="7" * 64
    )
    monkeypatch.setattr("pipeline.release._desk.Desk.versions", lambda _: [])
    monkeypatch.setattr("pipeline.release._desk.Desk.session", Opened())
    (finding,) = broken(workspace)

    assert finding.what.startswith("expected digits v7, champion since 20")
    assert finding.what.endswith("found no version of 'digits' at all in the registry at sqlite:///mlflow.db")
    assert "MLFLOW_TRACKING_URI" in finding.remedy


def test_a_missing_weights_file(workspace):
    """Likewise."""
    (workspace / "weights.pt").unlink()
    (finding,) = broken(workspace)

    assert "backbone.weights.file in params.yaml: 'weights.pt', which does not exist" == finding.what
    assert finding.line.startswith("✗ backbone.weights.file")
    assert "\n    → Check the path" in finding.line


def test_an_engine_that_is_not_installed(workspace, monkeypatch):
    """Ray is asked for where there is none: before the run, and with the command that installs it."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else real(name))
    (workspace / "params.yaml").write_text(PARAMS + "scale: {engine: ray}\n")
    (finding,) = broken(workspace)

    assert "scale.engine in params.yaml: none in this environment" == finding.what
    assert "pip install 'graftline[ray]'" in finding.remedy


def test_a_home_folder_is_found(workspace, monkeypatch):
    """``~`` in a path means here what it means to the stages."""
    monkeypatch.setenv("HOME", str(workspace))
    text = PARAMS.replace("path: photos", "path: ~/photos").replace("weights.pt", "~/weights.pt")
    (workspace / "params.yaml").write_text(text)

    assert [] == broken(workspace)


def test_several_faults_at_once(workspace):
    """All of them are told, so that one look is enough."""
    (workspace / "photos").rmdir()
    (workspace / "weights.pt").unlink()
    (workspace / ".dvc").rmdir()

    assert 3 == len(broken(workspace))


def test_faulty_params_are_a_finding(workspace):
    """The message of the stages, after what is known of the machine."""
    (workspace / "params.yaml").write_text("trian: {}\n")
    (finding,) = broken(workspace)

    assert "Did you mean 'train'?" in finding.what


def test_no_such_folder(tmp_path):
    """A typo after -C is no machine to examine."""
    with pytest.raises(WorkspaceError, match="no such folder"):
        doctor.examine(tmp_path / "nope")


def test_a_tracking_server_that_is_away(workspace, monkeypatch):
    """The reason, and how to start one."""

    def refuse(*_: object) -> None:
        raise ServiceError("http://127.0.0.1:5000 does not answer")

    monkeypatch.setattr("pipeline.tracking.session.open_session", refuse)
    (finding,) = broken(workspace)

    assert "127.0.0.1:5000 does not answer" in finding.what
    assert "make servers" in finding.remedy


def test_a_prefect_server_that_is_away(workspace, monkeypatch):
    """A set address that nobody answers at stops a run."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    (finding,) = broken(workspace)

    assert "no Prefect server at http://127.0.0.1:9/api" in finding.what


def test_a_prefect_server_that_answers(workspace, monkeypatch):
    """Is told; it is asked for its health."""
    asked = []

    def healthy(url, **_):
        asked.append(url)
        return httpx.Response(200, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", healthy)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    assert [] == broken(workspace)
    assert ["http://127.0.0.1:4200/api/health"] == asked


def test_a_device_that_is_not_here(workspace):
    """A run would find out only after the data were read."""
    (workspace / "params.yaml").write_text(PARAMS + "runtime: {device: 'cuda:99'}\n")
    (finding,) = broken(workspace)
    assert "runtime.device: Expected a device that torch can use here" in finding.what
    assert "Set runtime.device to auto." == finding.remedy


@pytest.mark.parametrize(
    ("webhook", "variables", "found"),
    [
        ("$GRAFTLINE_TEST_HOOK", {}, "GRAFTLINE_TEST_HOOK; found no such variable"),
        ("$GRAFTLINE_TEST_HOOK", {"GRAFTLINE_TEST_HOOK": "https://h.example/"}, None),
        ("https://h.example/$GRAFTLINE_TEST_HOOK", {}, "GRAFTLINE_TEST_HOOK; found no such variable"),
        ("$GRAFTLINE_TEST_HOOK/x", {"GRAFTLINE_TEST_HOOK": "https://h.example"}, None),
    ],
)
def test_a_webhook_in_a_variable(workspace, monkeypatch, webhook, variables, found):
    """The variable must be there where the run starts, wherever in the address it stands."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (workspace / "params.yaml").write_text(PARAMS + f"notify: {{webhook: '{webhook}'}}\n")
    faults = broken(workspace)
    assert ([] if found is None else [True]) == [found in fault.what for fault in faults]


def test_a_machine_that_cannot_run(workspace, monkeypatch):
    """No room, no git, and a folder that nobody may write to; each with what to do."""
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=1.26e9))
    told = [(finding.what, finding.remedy) for finding in broken(workspace)]
    assert told == [
        ("1.3 GB free", "Make room: a run needs 2 GB; `dvc gc --workspace` frees old versions."),
        (f"{workspace} cannot be written to", "Change its owner or mode."),
        ("git is not installed", "Install it; DVC and the run's revision need it."),
    ]


def test_the_exit_code_says_whether_a_run_can_start(workspace):
    """0 where nothing is broken, else 2."""
    assert 0 == CliRunner().invoke(app, ["doctor", "-C", str(workspace)]).exit_code
    (workspace / "photos").rmdir()
    assert 2 == CliRunner().invoke(app, ["doctor", "-C", str(workspace)]).exit_code


def test_a_signing_key_that_is_not_there(workspace):
    """The place, and how to make one; none is made by looking."""
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(text + "publish: {signing_key: keys/shop.pem}\n")
    (found,) = broken(workspace)

    assert f"{workspace}/keys/shop.pem (publish.signing_key in params.yaml): nothing there" == found.what
    assert "openssl ecparam" in found.remedy
    assert not (workspace / "keys").exists()
