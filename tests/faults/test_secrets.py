"""Secrets, planted wherever a user may have one, are in nothing that a run writes or says.

What is promised: a token or a password in the environment, and the webhook's address in params.yaml, stay there.
A weights address with a token written out is refused, because DVC copies the section into dvc.lock.
"""

from __future__ import annotations

import base64
import gzip
import http.server
import io
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
import safetensors.torch
from integration_tools import graftline, small_workspace
from refusals import assert_refused, in_this_process
from tally import Tally

from flows import services
from infra import servers
from pipeline import params
from pipeline.core import digests
from pipeline.models.small_cnn import small_cnn

CANARIES = {
    "the token of the weights": "canary-token-5c1f",
    "the password of the weights": "canary-password-77ab",
    "the password of the tracking server": "canary-mlflow-90de",
    "the key in the webhook's path": "canary-hook-31c2",
    "a variable that nobody asked for": "canary-bystander-0b4d",
}
TOKEN, PASSWORD, TRACKING, HOOK, BYSTANDER = CANARIES.values()


class Server(http.server.ThreadingHTTPServer):
    """Hands the weights to whoever knows both secrets, and takes notices."""

    daemon_threads = True

    def __init__(self, weights: bytes) -> None:
        self.weights, self.answered, self.hook_status = weights, [], 200
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        user = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
        knows = self.path == f"/w.safetensors?token={TOKEN}" and self.headers["Authorization"] == f"Basic {user}"
        self._answer(200 if knows else 403, self.server.weights if knows else b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(self.server.hook_status if self.path == f"/{HOOK}" else 404, b"")

    def _answer(self, status: int, content: bytes) -> None:
        self.server.answered.append((self.command, status))
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Told(NamedTuple):
    """A command, how it ended, and all it said."""

    command: str
    code: int
    said: str


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(safetensors.torch.save(small_cnn(3).state_dict())) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def spellings(canary: str) -> list[bytes]:
    """As it is, in a URL, and as the header of a login carries it."""
    logins = [base64.b64encode(f"me:{canary}".encode()), base64.b64encode(canary.encode())]
    return [canary.encode(), quote(canary, safe="").encode(), *(login.rstrip(b"=") for login in logins)]


def unpacked(content: bytes) -> list[bytes]:
    """The bytes, and what is in them where they are an archive."""
    if content[:2] == b"\x1f\x8b":
        return [content, gzip.decompress(content)]
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [content, *(archive.read(name) for name in archive.namelist())]
    return [content]


def found_in(where: str, content: bytes) -> list[str]:
    parts = unpacked(content)
    return [
        f"{name} in {where}"
        for name, canary in CANARIES.items()
        if any(spelling in part for spelling in spellings(canary) for part in parts)
    ]


def found_below(folder: Path) -> list[str]:
    """In every file, and in the files' names; params.yaml is the user's own."""
    places = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    hits = [hit for path in places for hit in found_in(f"the name of {path}", str(path).encode())]
    contents = [path for path in places if path != folder / params.FILE]
    return hits + [hit for path in contents for hit in found_in(str(path), path.read_bytes())]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """In a file, in a name, in a packed file, as a login; not in params.yaml."""
    (tmp_path / "params.yaml").write_text(HOOK)
    assert [] == found_below(tmp_path)
    (tmp_path / "log").write_text(f"https://me:{PASSWORD}@h")
    (tmp_path / f"x-{TOKEN}").write_text("")
    (tmp_path / "packed.gz").write_bytes(gzip.compress(TRACKING.encode()))
    (tmp_path / "login").write_bytes(base64.b64encode(f"me:{BYSTANDER}".encode()))
    assert 4 == len(found_below(tmp_path))


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_no_secret_leaves_its_place(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """A whole job with a tracking server, then one that fails in a stage, one refused by a server, one nobody hears of;
    workspace, database, artifacts, reports, logs, tracebacks and everything said are searched.
    """
    scratch = tmp_path / "temporary"
    scratch.mkdir()
    workspace = small_workspace(tmp_path / "workspace")
    address = f"http://127.0.0.1:{server.server_port}"
    url = f"http://me:$GRAFTLINE_TEST_PASSWORD@127.0.0.1:{server.server_port}/w.safetensors?token=$GRAFTLINE_TEST_TOKEN"
    sha256 = digests.of_bytes(server.weights)

    def weights(url: str, sha256: str) -> str:
        return f"backbone.weights={{url: '{url}', sha256: {sha256}, insecure: true, allow_private: true}}"

    secret = [weights(url, sha256), f"notify.webhook={address}/{HOOK}", "notify.allow_private=true"]
    for name, value in {
        "TMPDIR": str(scratch),
        "GRAFTLINE_TEST_TOKEN": TOKEN,
        "GRAFTLINE_TEST_PASSWORD": PASSWORD,
        "GRAFTLINE_TEST_API_KEY": BYSTANDER,
    }.items():
        monkeypatch.setenv(name, value)
    told: list[Told] = []

    def call(*arguments: str) -> Told:
        done = graftline(*arguments, workspace=workspace)
        told.append(Told(" ".join(arguments), done.returncode, done.stdout + done.stderr))
        return told[-1]

    mlflow = servers._mlflow(workspace, 0)
    with services.temporary(mlflow, workspace) as running:
        services.wait(running)
        with_login = mlflow.url.replace("http://", f"http://me:{TRACKING}@")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", with_login)
        whole = call("run", "--inline", *(word for value in secret for word in ("--set", value)))
        assert 0 == whole.code, whole.said
        assert {("GET", 200), ("POST", 200)} <= set(server.answered), "the secrets were not used"
        assert "403" in call("run", "--inline", "--set", weights(url.replace("w.safe", "v.safe"), "b" * 64)).said
        assert "a file with sha256" in call("run", "--inline", "--set", weights(url, "c" * 64)).said
        server.hook_status = 500
        broken = call("run", "--inline", "--set", weights(url, sha256), "--set", "train.strategy.name=class_mean")
        assert "Nobody was told" in broken.said, broken.said
        for command in ("status", "doctor", "models", "history", "report"):
            call(command)
    gone = call("run", "--inline", "--set", "seed=7")
    assert 1 == gone.code, gone.said
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("GRAFTLINE_TEST_TOKEN")
    assert "GRAFTLINE_TEST_TOKEN" in call("run", "--inline", "--set", "seed=8", "--set", weights(url, "d" * 64)).said
    (workspace / "params.yaml").write_text((workspace / "params.yaml").read_text().replace("seed: 8", "seed: [8"))
    call("status")

    leaks = found_below(workspace) + found_below(scratch)
    leaks += [
        hit for each in told for hit in found_in(f"what `graftline {each.command[:40]}` said", each.said.encode())
    ]
    tally.note(f"{len(told)} commands, {sum(each.code != 0 for each in told)} of them failing")
    with tally("canaries", len(CANARIES) * len(told)):
        assert [] == leaks


# -- written out -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [f"https://store.example/w.pt?token={TOKEN}", f"https://me:{PASSWORD}@store.example/w.pt"],
    ids=["a token", "a password"],
)
@pytest.mark.parametrize("place", ["weights", "candidates", "pretrain"])
def test_a_secret_written_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, place: str
) -> None:
    """Before anything is written, in words that do not repeat it, with the way that keeps it."""
    weights = f"{{url: '{url}', sha256: {'a' * 64}}}"
    text = {
        "weights": f"{{weights: {weights}}}",
        "candidates": f"{{candidates: [{{name: resnet18, weights: {weights}}}]}}",
        "pretrain": f"{{pretrain: {{start: {weights}}}}}",
    }[place]
    (tmp_path / "params.yaml").write_text(f"model: toys\nbackbone: {text}\n")
    answer = in_this_process(monkeypatch, capsys)("run", "--inline", "-C", tmp_path)
    assert_refused(answer, "without a password or a token in it; $NAME takes one from the environment")
    assert [] == found_in("what was said", answer.said.encode())
    assert [] == found_below(tmp_path)


def test_what_set_says_hides_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typo beside a secret is told without it; so is a value that changes."""
    (tmp_path / "params.yaml").write_text("model: toys\n")
    call = in_this_process(monkeypatch, capsys)
    typo = call("run", "--inline", "-C", tmp_path, "--set", f"backbone.weights={{uri: 'https://h/w?token={TOKEN}'}}")
    assert_refused(typo, "one of the keys file, url, mlflow")
    webhook = call("run", "--inline", "-C", tmp_path, "--set", f"notify.webhook={HOOK}")
    assert_refused(webhook, "must start with https://")
    assert [] == found_in("what was said", (typo.said + webhook.said).encode())


def test_a_traceback_hides_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error that nobody expected may name an address; neither the message nor the file it leaves does so whole."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fail(_: Path) -> None:
        raise RuntimeError(f"cannot reach https://me:{PASSWORD}@store/w.pt?token={TOKEN}")

    monkeypatch.setattr(params, "load", fail)
    answer = in_this_process(monkeypatch, capsys)("status", "-C", tmp_path)
    assert 1 == answer.code
    assert "cannot reach https://***@store/w.pt?***" in answer.said
    (log,) = tmp_path.glob("graftline-*.log")
    assert "RuntimeError" in log.read_text()
    assert [] == found_in("what was said", answer.said.encode()) + found_below(tmp_path)
    assert 0o600 == log.stat().st_mode & 0o777
