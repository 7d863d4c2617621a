"""``graftline doctor``: what stops a run is found before the run."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import torch
from typer.testing import CliRunner

from pipeline import doctor, params
from pipeline.cli import main  # noqa: F401 - adds the commands to the app
from pipeline.cli.app import app
from pipeline.core import digests
from pipeline.core.errors import ServiceError, WorkspaceError
from pipeline.graph import dvcfile
from pipeline.models import downloads
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import random_weights
from pipeline.release.history import History
from tests.web_server import Page, Server, serving

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


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """Of the backbone that the params name."""
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    torch.save(random_weights("small_cnn", 0, backbone("small_cnn").preprocessing).state, path)
    return path


@pytest.fixture
def workspace(tmp_path, checkpoint) -> Path:
    """All that the params ask for is there."""
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "7.png", "notes.txt"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"not looked at here")
    (tmp_path / ".dvc").mkdir()
    shutil.copyfile(checkpoint, tmp_path / "weights.pt")
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
        "target: 4 images of 2 classes, 1 of them unlabelled · 1 other file left out (.txt)",
        "bundles are signed with the key of this workspace",
        "backbone.weights.file: weights.pt",
    ):
        assert f"✓ {part}" in said
    assert "tracking store answers" in said


def test_a_missing_data_folder(workspace):
    """The path, and both ways to mend it."""
    shutil.rmtree(workspace / "photos")
    (finding,) = broken(workspace)

    assert "ingest.target.path in params.yaml: 'photos', which does not exist" == finding.what
    assert "dvc pull" in finding.remedy


@pytest.mark.parametrize(
    ("spoil", "said", "remedy"),
    [
        (
            lambda photos: shutil.rmtree(photos / "dog"),
            "images of at least two classes; found one class only, 'cat'",
            "",
        ),
        (lambda photos: [file.unlink() for file in photos.rglob("*.png")], "1 other files and no image in ", "class"),
        (lambda photos: (photos / "train").mkdir() or photo(photos, "train/a") or photo(photos, "test/a"), "both", ""),
    ],
    ids=["one class", "no image", "folders that nobody can tell apart"],
)
def test_images_that_a_run_would_refuse(workspace, spoil, said, remedy):
    """As ingest would say it, with no image opened."""
    spoil(workspace / "photos")
    (finding,) = broken(workspace)

    assert said in finding.what
    assert "(ingest.target" in finding.what
    assert remedy in finding.remedy


def photo(photos: Path, name: str) -> None:
    (photos / name).mkdir(parents=True, exist_ok=True)
    (photos / name / "1.png").write_bytes(b"not looked at here")


def test_classes_are_compared_only_where_both_domains_are_known(workspace):
    """A mistake in label_map is one of names; a source that is made has none before it is made."""
    (workspace / "params.yaml").write_text(PARAMS.replace("source: null", "source: rendered_digits"))
    assert [] == broken(workspace)

    own = "source: {name: image_folder, path: photos}\n  label_map: {kat: cat}"
    (workspace / "params.yaml").write_text(PARAMS.replace("source: null", own))
    (finding,) = broken(workspace)
    assert "found 'kat' (ingest.label_map" in finding.what
    assert "Did you mean 'cat'?" == finding.remedy


def test_a_missing_source_hides_no_other_fault(workspace):
    """Of images and of weights: one look is enough."""
    shutil.rmtree(workspace / "photos/dog")
    (workspace / "params.yaml").write_text(PARAMS.replace("{file: weights.pt}", "pretrain"))
    said = " ".join(finding.what for finding in broken(workspace))
    assert "one class only" in said
    assert "ingest.source: null" in said


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        (
            "{name: resnet18, weights: {file: weights.pt}}",
            "the 120 tensors of resnet18; found weights.pt that lacks bn1",
        ),
        ("{name: resnet18, weights: IMAGENET}", "one of: pretrain, none, IMAGENET1K_V1, DEFAULT; found 'IMAGENET'"),
        ("{candidates: [{name: small_cnn, weights: none}, {name: resnet18, weights: V7}]}", "candidates.1.weights"),
        ("{name: small_cnn, pretrain: {objective: rotation, start: V7}}", "(backbone.pretrain.start in params.yaml)"),
        ("{name: small_cnn, weights: pretrain}", "labelled source images to pretrain on; found ingest.source: null"),
    ],
)
def test_weights_that_a_run_would_refuse(workspace, backbone, said):
    """Of another architecture, of no known name, or with nothing to pretrain on."""
    text = PARAMS.replace("{name: small_cnn, weights: {file: weights.pt}}", backbone)
    (workspace / "params.yaml").write_text(text)
    (finding,) = broken(workspace)
    assert said in finding.what
    assert finding.remedy


def test_a_registry_that_does_not_know_the_champion(workspace, monkeypatch):
    """As a run would find it: what the history says, and how to go on."""
    History(workspace).append(
        model="digits", action="promoted", version=7, previous=6, reason="", model_sha256="7" * 64
    )
    monkeypatch.setattr("pipeline.release._desk.Desk.versions", lambda _: [])
    monkeypatch.setattr("pipeline.release._desk.Desk.session", Opened())
    (finding,) = broken(workspace)

    assert finding.what.startswith("expected digits v7, champion since 20")
    assert finding.what.endswith("found no version of 'digits' at all (the registry at sqlite:///mlflow.db)")
    assert "MLFLOW_TRACKING_URI" in finding.remedy


def weights_of(workspace: Path, form: str, name: str = "small_cnn") -> list[doctor.Finding]:
    """What is said of weights in this form."""
    text = PARAMS.replace("{name: small_cnn, weights: {file: weights.pt}}", f"{{name: {name}, weights: {form}}}")
    (workspace / "params.yaml").write_text(text)
    return [finding for finding in doctor.examine(workspace) if "backbone.weights" in finding.what]


def test_weights_that_are_to_be_fetched(workspace, checkpoint):
    """Asked for where they lie, and not fetched; once they are here nobody is asked."""
    content, digest = checkpoint.read_bytes(), digests.of_file(checkpoint)

    def page(request: Page) -> None:
        request.send(content, 200 if "w.pt" in request.path else 404, Content_Length=len(content))

    with serving(server := Server(page)):
        terms = f"sha256: {digest}, insecure: true, allow_private: true"
        form = f"{{url: '{server.url('/w.pt?a=b')}', {terms}}}"
        (finding,) = weights_of(workspace, form)
        assert ("fine", f"backbone.weights: the file is to be fetched: {server.url('/w.pt')}, 1 MB") == finding[:2]
        (gone,) = weights_of(workspace, f"{{url: '{server.url('/gone.pt')}', {terms}}}")
        assert ("broken", True) == (gone.state, "status 404" in gone.what)
        downloads.from_url(
            server.url("/w.pt?a=b"), digest, workspace / ".graftline/cache", "", insecure=True, allow_private=True
        )
    assert [("fine", "backbone.weights: the file is on this machine", "")] == weights_of(workspace, form)
    (out_of_reach,) = weights_of(workspace, form.replace("w.pt", "other.pt"))
    assert "broken" == out_of_reach.state
    assert "Could not download" in out_of_reach.what
    assert "remedy" in out_of_reach.what


def test_named_weights(workspace, tmp_path, monkeypatch):
    """torchvision's name, and whether its file is here; an artifact of MLflow is the tracking store's affair."""
    hub = tmp_path / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / "own-0123abcd.pth").write_bytes(b"weights")
    own = downloads.Published(
        "https://127.0.0.1:9/own-0123abcd.pth", digests.of_bytes(b"weights"), backbone("resnet18").preprocessing
    )
    monkeypatch.setattr(downloads, "published", lambda *_: own)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(hub.parent))
    named = "backbone.weights: IMAGENET1K_V1 of resnet18"
    assert [("fine", f"{named} is on this machine", "")] == weights_of(workspace, "IMAGENET1K_V1", "resnet18")

    (hub / "own-0123abcd.pth").unlink()
    monkeypatch.setattr(downloads, "size_of", lambda *_, **__: 46_830_571)
    (finding,) = weights_of(workspace, "IMAGENET1K_V1", "resnet18")
    assert ("fine", f"{named} is to be fetched: {own.url}, 47 MB") == finding[:2]

    artifact = f"{{mlflow: 'runs:/1/weights.pt', sha256: {'a' * 64}}}"
    assert ["backbone.weights: runs:/1/weights.pt is to be fetched"] == [
        finding.what for finding in weights_of(workspace, artifact)
    ]


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
    shutil.rmtree(workspace / "photos")
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
    shutil.rmtree(workspace / "photos")
    assert 2 == CliRunner().invoke(app, ["doctor", "-C", str(workspace)]).exit_code


def test_a_signing_key_that_is_not_there(workspace):
    """The place, and how to make one; none is made by looking."""
    text = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(text + "publish: {signing_key: keys/shop.pem}\n")
    (found,) = broken(workspace)

    assert f"{workspace}/keys/shop.pem (publish.signing_key in params.yaml): nothing there" == found.what
    assert "openssl ecparam" in found.remedy
    assert not (workspace / "keys").exists()
