"""Downloads: digest first, nothing half-written, no secrets in messages. All servers are on this machine."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.core import digests
from pipeline.core.errors import ServiceError, WeightsError
from pipeline.models import downloads
from pipeline.models.backbones import backbone
from pipeline.models.downloads import Published, from_mlflow, from_url, published, size_of
from tests.web_server import Page, Server, serving

CONTENT = b"weights" * 1000
SHA256 = digests.of_bytes(CONTENT)


class _Server(http.server.BaseHTTPRequestHandler):
    served = 0

    def do_GET(self) -> None:
        type(self).served += 1
        self.send_response(200 if "w.pt" in self.path else 404)
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    _Server.served = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_is_fetched_once(tmp_path: Path, address: str) -> None:
    """The second call finds the file under its digest and asks nobody."""
    paths = [from_url(f"{address}/w.pt", SHA256, tmp_path, "here", insecure=True, allow_private=True) for _ in range(2)]
    assert paths[0] == paths[1] == tmp_path / "downloads" / SHA256 / "w.pt"
    assert paths[0].read_bytes() == CONTENT
    assert _Server.served == 1


def test_asking_for_the_size_fetches_nothing(tmp_path: Path) -> None:
    """What the header says; nothing where it says nothing; too large, gone or out of reach as a download would say."""
    packed = {"insecure": True, "allow_private": True}

    def page(request: Page) -> None:
        length = {"Content_Length": len(CONTENT)} if "told" in request.path else {}
        request.send(CONTENT, 404 if "gone" in request.path else 200, **length)

    with serving(server := Server(page)):
        assert len(CONTENT) == size_of(server.url("/told.pt"), "here", **packed)
        assert size_of(server.url("/w.pt"), "here", **packed) is None
        with pytest.raises(WeightsError, match=r"at most 0 MB; found 0 MB from http"):
            size_of(server.url("/told.pt"), "here", max_bytes=10, **packed)
        with pytest.raises(WeightsError, match=r"a file to download; found status 404"):
            size_of(server.url("/gone.pt"), "here", **packed)
    with pytest.raises(ServiceError, match=r"Could not download http://127.0.0.1:9/w.pt"):
        size_of("http://127.0.0.1:9/w.pt", "here", **packed)


def test_wrong_digest_leaves_nothing(tmp_path: Path, address: str) -> None:
    """What does not match is refused and not kept."""
    with pytest.raises(WeightsError, match=SHA256):
        from_url(f"{address}/w.pt", "0" * 64, tmp_path, "here", insecure=True, allow_private=True)
    assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == []


def test_a_damaged_copy_in_the_cache_is_found_out(tmp_path: Path, address: str) -> None:
    """The digest is checked on every use, not only after the download."""
    path = from_url(f"{address}/w.pt", SHA256, tmp_path, "here", insecure=True, allow_private=True)
    path.write_bytes(b"rot")
    with pytest.raises(WeightsError, match=SHA256):
        from_url(f"{address}/w.pt", SHA256, tmp_path, "here", insecure=True, allow_private=True)


def test_plain_http_must_be_asked_for(tmp_path: Path, address: str) -> None:
    """Only https unless the user says otherwise; other schemes never."""
    for url in (f"{address}/w.pt", "ftp://example.org/w.pt", "file:///etc/passwd"):
        with pytest.raises(WeightsError, match="an https:// address"):
            from_url(url, SHA256, tmp_path, "here", allow_private=True, insecure=url.startswith(("ftp", "file")))


@pytest.mark.parametrize(
    ("url", "insecure", "remedy"),
    [
        ("http://h.example/w.pt", False, "Use https, or set insecure: true beside the url for a server of your own"),
        ("ftp://h.example/w.pt", True, "Correct the url: it begins with https:// or http://, then a host."),
        ("https://127.0.0.1/w.pt", False, "If that server is yours and meant, set allow_private: true beside the url."),
    ],
)
def test_a_refused_url_names_what_can_be_set_beside_it(tmp_path: Path, url: str, insecure: bool, remedy: str) -> None:
    """And nothing that is set already."""
    with pytest.raises(WeightsError) as caught:
        from_url(url, SHA256, tmp_path, "here", insecure=insecure)
    assert caught.value.remedy.startswith(remedy)


def test_a_refused_address_of_torchvision_has_no_setting_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`weights: IMAGENET1K_V1` has neither `insecure` nor `allow_private`: a url of one's own, or a file."""
    import torch

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    remedies = []
    for scheme in ("https", "http"):
        checkpoint = Published(f"{scheme}://127.0.0.1/w.pth", SHA256[:8], backbone("resnet50").preprocessing)
        with pytest.raises(WeightsError) as caught:
            downloads.from_torchvision(checkpoint, tmp_path / "cache", "here")
        remedies.append(caught.value.remedy)
    by_hand = "download the file yourself and set weights: {file: PATH}."
    assert remedies == [
        "If a mirror of your own is meant, set weights: "
        f"{{url: 'https://127.0.0.1/w.pth', sha256: …, allow_private: true}}; otherwise {by_hand}",
        f"The server sends us on to another address: {by_hand}",
    ]


def test_a_refused_address_is_shown_without_its_secrets(tmp_path: Path) -> None:
    """Neither password nor token reaches a message; the port does."""
    with pytest.raises(WeightsError) as caught:
        from_url("http://me:hidden@example.org:8080/w.pt?token=hidden", SHA256, tmp_path, "here")
    assert "found http://example.org:8080/w.pt." in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_not_found_is_the_users_mistake_and_hides_the_query(tmp_path: Path, address: str) -> None:
    """A 404 says which address, without what may be a token."""
    with pytest.raises(WeightsError, match="status 404") as caught:
        from_url(f"{address}/none.pth?token=secret", SHA256, tmp_path, "here", insecure=True, allow_private=True)
    assert "secret" not in str(caught.value)


def test_no_answer_is_not_the_users_mistake(tmp_path: Path) -> None:
    """A server that is not there is a ServiceError that says how to do without it."""
    with pytest.raises(ServiceError, match=r"Could not download[\s\S]*file: PATH"):
        from_url("http://127.0.0.1:9/w.pt", SHA256, tmp_path, "here", insecure=True, allow_private=True)


def test_torchvision_names_carry_digest_and_sizes() -> None:
    """A published checkpoint comes with the sizes it was measured at and the digest in its file's name."""
    second = published(backbone("resnet50"), "IMAGENET1K_V2", "here")
    assert (224, 232) == (second.preprocessing.size_px, second.preprocessing.resize_px)
    assert second.url.endswith(f"-{second.digest_prefix}.pth")


def test_a_copy_of_torch_hub_is_used_if_it_is_the_file(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of this user, from another program; one that was cut short is left alone, and the file is fetched."""
    import torch

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    asked: list[str] = []
    monkeypatch.setattr(downloads, "from_url", lambda url, *_, **__: asked.append(url) or tmp_path / "fetched")
    checkpoint = Published(f"{address}/w-{SHA256[:8]}.pth?x=1", SHA256[:8], backbone("resnet50").preprocessing)
    copy = tmp_path / "hub/checkpoints" / f"w-{SHA256[:8]}.pth"
    copy.parent.mkdir(parents=True)
    for content, found in ((CONTENT, copy), (CONTENT[:-1], tmp_path / "fetched")):
        copy.write_bytes(content)
        assert found == downloads.from_torchvision(checkpoint, tmp_path / "cache", "here")
    copy.unlink()
    assert tmp_path / "fetched" == downloads.from_torchvision(checkpoint, tmp_path / "cache", "here")
    assert [checkpoint.url] * 2 == asked


@pytest.mark.parametrize("name", ["resnet50", "small_cnn"])
def test_unknown_weights_name(name: str) -> None:
    """Lists what there is for this backbone."""
    with pytest.raises(WeightsError, match=rf"weights of {name}, one of: pretrain, none.*found 'IMAGENET9K'"):
        published(backbone(name), "IMAGENET9K", "here")


class Stored(NamedTuple):
    """An MLflow store with one checkpoint in it."""

    tracking_uri: str
    artifact_uri: str


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """Migrating a fresh database takes seconds: one for all tests here."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("a store")
    (folder / "weights.safetensors").write_bytes(CONTENT)
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment("toy", artifact_location=(folder / "artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.log_artifact(run_id, str(folder / "weights.safetensors"), "model")
    return Stored(uri, f"runs:/{run_id}/model")


def test_an_artifact_is_fetched_from_the_store_that_is_named(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its one checkpoint is found in a folder too, fetched once, and nothing is left in the current folder."""
    elsewhere, cache = tmp_path / "elsewhere", tmp_path / "cache"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = from_mlflow(stored.artifact_uri, SHA256, cache, "here", tracking_uri=stored.tracking_uri)
    assert CONTENT == path.read_bytes()
    assert path.is_relative_to(cache)
    assert path == from_mlflow("runs:/gone/model", SHA256, cache, "here", tracking_uri="sqlite:////nowhere.db")
    assert [] == list(elsewhere.iterdir())


def test_an_artifact_of_another_digest_is_refused_and_not_kept(stored: Stored, tmp_path: Path) -> None:
    """An alias that was moved, say."""
    with pytest.raises(WeightsError, match=f"with sha256 {SHA256}"):
        from_mlflow(stored.artifact_uri, "0" * 64, tmp_path, "here", tracking_uri=stored.tracking_uri)
    assert [] == [entry for entry in tmp_path.rglob("*") if entry.is_file()]


def test_an_artifact_that_is_not_there(stored: Stored, tmp_path: Path) -> None:
    """The user's mistake, told with the address and where the store is set."""
    with pytest.raises(
        WeightsError, match=r"nothing usable at runs:/none/model .*\n[\s\S]*tracking.uri in params.yaml"
    ):
        from_mlflow("runs:/none/model", SHA256, tmp_path, "here", tracking_uri=stored.tracking_uri)


def test_a_folder_of_several_files_is_asked_to_name_one(tmp_path: Path) -> None:
    """A checkpoint among other files is found by its ending; of two neither is guessed."""
    for name in ("README.md", "weights.safetensors"):
        (tmp_path / name).touch()
    assert tmp_path / "weights.safetensors" == downloads._only_checkpoint(tmp_path, "runs:/a/model", "here")
    (tmp_path / "other.pt").touch()
    with pytest.raises(WeightsError) as caught:
        downloads._only_checkpoint(tmp_path, "runs:/a/model", "here")
    error = caught.value
    assert ("one checkpoint file", "2 below runs:/a/model") == (error.expected, error.found)
    assert "Add the file's name to the address." == error.remedy


def test_an_artifact_without_a_store(tmp_path: Path) -> None:
    """MLflow would make an empty one in the current folder; we ask for one."""
    with pytest.raises(WeightsError, match=r"a tracking store to look for models:/digits@champion in; found none"):
        from_mlflow("models:/digits@champion", SHA256, tmp_path, "here", tracking_uri=None)
