"""Addresses that lead where they should not, and servers that never end: refused before a byte is kept.

All servers are on this machine.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from refusals import assert_refused, in_this_process
from web_server import Page, Server, serving

from pipeline.core import digests, web
from pipeline.core.errors import ParamsError, ServiceError, WeightsError
from pipeline.flow_params import Notify
from pipeline.models import downloads
from pipeline.models.downloads import from_mlflow, from_url
from pipeline.release import notify

CONTENT = b"weights" * 1000
SHA256 = digests.of_bytes(CONTENT)

HERE = (
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0.0.0.0",
    "localhost",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "100.64.0.1",
    "[fd00::1]",
)
"""This machine and private networks, in every way in which they are written."""

LINK = ("169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "224.0.0.1")
"""The link itself, where rented machines find their keys, and a group."""


class Pages(Server):
    """Answers each path with what ``pages`` does."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[Page], None]] = {"/w.pt": lambda page: page.send(CONTENT)}
        super().__init__(lambda page: self.pages[page.path](page))


@pytest.fixture
def server() -> Iterator[Pages]:
    server = Pages()
    with serving(server):
        yield server


def fetched(url: str, cache: Path, **options: object) -> Path:
    """As a user does who means a server of his own."""
    return from_url(url, SHA256, cache, "backbone.weights", **{"insecure": True, "allow_private": True, **options})


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# -- where an address leads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", HERE)
def test_a_private_address_must_be_allowed(server: Pages, tmp_path: Path, host: str) -> None:
    """However it is written; the message names the setting that allows it."""
    with pytest.raises(WeightsError, match=r"Expected a public address.*private network") as caught:
        fetched(server.url("/w.pt", host), tmp_path, allow_private=False)
    assert "allow_private: true" in caught.value.remedy
    assert [] == server.asked
    assert [] == files_below(tmp_path)


@pytest.mark.parametrize("host", LINK)
def test_an_address_of_the_link_is_never_asked(tmp_path: Path, host: str) -> None:
    """Not even where private addresses are allowed."""
    with pytest.raises(WeightsError, match="an address of the link or of a group"):
        fetched(f"http://{host}/latest/meta-data", tmp_path)


def test_a_name_that_resolves_otherwise_a_moment_later(
    server: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address at the other end is looked at once more before anything is asked of it."""
    real, answers = socket.getaddrinfo, iter(["93.184.216.34"])

    def rebinding(host: str, *rest: object, **named: object) -> object:
        return real(next(answers, "127.0.0.1") if host == "rebinding.example" else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with pytest.raises(WeightsError, match="Expected a public address"):
        fetched(server.url("/w.pt", "rebinding.example"), tmp_path, allow_private=False)
    assert [] == server.asked


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("file:///etc/hostname", "found file://127.0.0.1"),
        ("ftp://example.org/w.pt", "found ftp://example.org"),
        ("http://169.254.169.254/latest/meta-data?token=hidden", "an address of the link"),
        ("http://[::1", None),
    ],
)
def test_each_redirect_is_checked(server: Pages, tmp_path: Path, location: str, found: str | None) -> None:
    """A server cannot send us where the address itself could not lead."""
    server.pages["/moved"] = lambda page: page.send(b"", 302, location=location)
    with pytest.raises((WeightsError, ServiceError), match=found) as caught:
        fetched(server.url("/moved"), tmp_path)
    assert "hidden" not in str(caught.value)
    assert ["/moved"] == server.asked
    assert [] == files_below(tmp_path)


def test_a_redirect_to_a_private_address(server: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a public server to this machine: the first hop is fine, the second is refused."""
    asked: list[str] = []
    real = web._check_address

    def first_is_public(found: str, url: str, rules: web.Rules) -> None:
        asked.append(url)
        if url != server.url("/moved"):
            real(found, url, rules)

    monkeypatch.setattr(web, "_check_address", first_is_public)
    server.pages["/moved"] = lambda page: page.send(b"", 302, location=server.url("/w.pt"))
    with pytest.raises(WeightsError, match="Expected a public address"):
        fetched(server.url("/moved"), tmp_path, allow_private=False)
    assert ["/moved"] == server.asked
    assert server.url("/w.pt") == asked[-1]


def test_redirects_are_followed_and_end(server: Pages, tmp_path: Path) -> None:
    """A few, as mirrors need them; not for ever."""
    server.pages["/moved"] = lambda page: page.send(b"", 302, location="/w.pt")
    assert CONTENT == fetched(server.url("/moved"), tmp_path / "one").read_bytes()

    server.pages["/round"] = lambda page: page.send(b"", 302, location="/round")
    with pytest.raises(WeightsError, match=r"at most 5 redirects; found more from .*/round\."):
        fetched(server.url("/round"), tmp_path / "two")
    assert 6 == server.asked.count("/round")


# -- how much, and how long --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False], ids=["told in the header", "found while it comes"])
def test_a_file_that_is_too_large(server: Pages, tmp_path: Path, told: bool) -> None:
    """Not fetched where its size is told; given up where it is not. Nothing of it stays."""
    headers = {"content_length": 10**13} if told else {}

    def endless(page: Page) -> None:
        page.send(b"", **headers)
        while not told:
            page.wfile.write(bytes(10_000))

    server.pages["/endless.pt"] = endless
    with pytest.raises(WeightsError, match=r"at most 1 MB; found (10,000,000 MB|more than 1 MB) from"):
        fetched(server.url("/endless.pt"), tmp_path, max_bytes=10**6)
    assert [] == files_below(tmp_path)


def test_a_packed_answer_is_not_unpacked(server: Pages, tmp_path: Path) -> None:
    """It may be a thousand times larger than it is; the header asks for the file as it is."""
    server.pages["/w.gz"] = lambda page: page.send(b"\x1f\x8b", content_encoding="gzip")
    with pytest.raises(WeightsError, match=r"the file as it is; found one that the server has packed \(gzip\)"):
        fetched(server.url("/w.gz"), tmp_path)


@pytest.mark.parametrize("part", ["header", "body"])
def test_a_server_that_drips(server: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """A byte now and then keeps every single wait short; the whole has an end all the same."""
    monkeypatch.setattr(downloads, "WHOLE_S", 0.5)
    stop = threading.Event()

    def dripping(page: Page) -> None:
        page.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if part == "body" else b"x: "))
        while not stop.wait(0.05):
            page.wfile.write(b"x")

    server.pages["/drip.pt"] = dripping
    started = time.monotonic()
    with pytest.raises(ServiceError, match=r"Could not download .*/drip.pt: it took longer than"):
        fetched(server.url("/drip.pt"), tmp_path)
    stop.set()
    assert time.monotonic() - started < 5
    assert [] == files_below(tmp_path)


# -- MLflow, the webhook, the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    ["file:///etc/hostname", "http://127.0.0.1/w.pt", "s3://bucket/w.pt", "/etc/hostname", "mlflow-artifacts://else/w"],
)
def test_an_artifact_lies_with_the_store(tmp_path: Path, uri: str) -> None:
    """MLflow would follow any address: only those of the tracking store reach it."""
    with pytest.raises(WeightsError, match="Expected an artifact of the tracking store"):
        from_mlflow(uri, SHA256, tmp_path, "here", tracking_uri="http://store:5000")


def test_a_private_webhook_must_be_allowed(server: Pages) -> None:
    """The same rules; the address itself is in no message."""
    server.pages["/s3cret"] = lambda page: page.send(b"")
    with pytest.raises(ParamsError, match="Expected a public address") as caught:
        notify.send(Notify(webhook=server.url("/s3cret")), {})
    assert "s3cret" not in str(caught.value)
    assert "allow_private: true" in caught.value.remedy
    assert notify.send(Notify(webhook=server.url("/s3cret"), allow_private=True), {"text": "hello"})


def test_a_webhook_that_sends_us_on_is_not_followed(server: Pages) -> None:
    """The notice is for the address that was named."""
    server.pages["/moved"] = lambda page: page.send(b"", 307, location="/elsewhere")
    with pytest.raises(ServiceError, match="answered 307"):
        notify.send(Notify(webhook=server.url("/moved"), allow_private=True), {"text": "hello"})
    assert ["/moved"] == server.asked


def test_the_command_ends_with_2(
    server: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One message with the setting's name, before anything is asked."""
    weights = f"{{url: {server.url('/w.pt')}, sha256: {SHA256}, insecure: true}}"
    (tmp_path / "params.yaml").write_text(f"model: toys\nbackbone: {{name: small_cnn, weights: {weights}}}\n")
    answer = in_this_process(monkeypatch, capsys)("stage", "backbone", "-C", tmp_path)
    assert_refused(answer, "a public address", "backbone.weights in params.yaml", "allow_private: true")
    assert [] == server.asked
