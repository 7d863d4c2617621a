"""Which addresses are asked, and for how long. All servers are on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from web_server import Page, Server, serving

from pipeline.core import web
from pipeline.core.errors import InputError, WeightsError

REMEDIES = web.Remedies("Use another scheme.", "Set that it may.", "Name the last one.")
RULES = web.Rules(WeightsError, "backbone.weights in params.yaml", REMEDIES)
HERE = dataclasses.replace(RULES, schemes=("http",), private=True)
"""For the servers below."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(lambda page: page.send(b"content"))
    with serving(server):
        yield server


@pytest.fixture(autouse=True)
def _no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def refusal(url: str, rules: web.Rules = RULES) -> InputError | None:
    try:
        web.check(url, rules)
    except InputError as error:
        return error
    return None


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "schemes", "host"),
    [
        ("https://example.org/w.pt", ("https",), "example.org"),
        ("HTTPS://me:pw@Example.org:8443/w.pt?x=1", ("https",), "example.org"),
        ("http://example.org", ("https", "http"), "example.org"),
        ("https://[2606:4700::1]/w.pt", ("https",), "2606:4700::1"),
        ("http://example.org/w.pt", ("https",), None),
        ("file:///etc/hostname", ("https", "http"), None),
        ("https:///w.pt", ("https",), None),
        ("https://[::1", ("https",), None),
        ("https://example.org:port/", ("https",), None),
        ("example.org", ("https",), None),
        ("", ("https",), None),
    ],
)
def test_only_some_schemes_and_only_hosts(url: str, schemes: tuple[str, ...], host: str | None) -> None:
    rules = dataclasses.replace(RULES, schemes=schemes)
    if host is not None:
        assert web.check_scheme(url, rules) == host
        return
    with pytest.raises(WeightsError) as caught:
        web.check_scheme(url, rules)
    assert caught.value.expected == f"an {schemes[0]}:// address"
    assert caught.value.found == web.without_secrets(url)
    assert caught.value.where == "backbone.weights in params.yaml"
    assert caught.value.remedy == "Use another scheme."


def test_the_rules_say_how_an_address_is_shown() -> None:
    """A webhook's path is itself a secret; otherwise credentials and query are left out."""
    shown = dataclasses.replace(RULES, shown=lambda url: web.without_secrets(url, path=False))
    url = "ftp://me:pw@hooks.example/T0KEN?x=1"
    assert [refusal(url, RULES).found, refusal(url, shown).found] == [
        "ftp://hooks.example/T0KEN",
        "ftp://hooks.example",
    ]


@pytest.mark.parametrize(
    ("url", "bare", "host"),
    [
        ("https://me:pw@h.org:8080/a/b?token=1#part", "https://h.org:8080/a/b", "https://h.org:8080"),
        ("https://a@b@h.org/x", "https://h.org/x", "https://h.org"),
        ("https://[::1", "an address that cannot be read", "an address that cannot be read"),
    ],
)
def test_an_address_without_its_secrets(url: str, bare: str, host: str) -> None:
    assert (web.without_secrets(url), web.without_secrets(url, path=False)) == (bare, host)


PRIVATE = ["127.0.0.1", "10.1.2.3", "192.168.0.9", "[::1]", "[fd00::1]", "[::ffff:10.0.0.1]"]
PRIVATE += ["[2002:7f00:1::]", "[64:ff9b::7f00:1]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]"]
"""Also as 6to4, NAT64 and Teredo write an IPv4 address of this machine."""

PUBLIC = ["93.184.216.34", "[2606:4700::1]", "[::ffff:93.184.216.34]", "[2002:5db8:d822::]", "[64:ff9b::5db8:d822]"]

NEVER = ["169.254.169.254", "[fe80::1]", "[2002:a9fe:a9fe::]", "[64:ff9b::a9fe:a9fe]", "224.0.0.1", "[ff02::1]"]
NEVER += ["168.63.129.16", "100.100.100.200", "[fd00:ec2::254]", "[::ffff:168.63.129.16]"]
"""The link, groups, and where rented machines find their keys."""


@pytest.mark.parametrize("host", PUBLIC)
def test_public_addresses_are_asked(host: str) -> None:
    assert refusal(f"https://{host}/w.pt") is None


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_asked_where_they_are_allowed(host: str) -> None:
    error = refusal(f"https://me:pw@{host}/w.pt?token=1")
    assert isinstance(error, WeightsError)
    assert error.expected == "a public address"
    assert error.found == f"https://{host}/w.pt, which is on this machine or in a private network"
    assert error.where == "backbone.weights in params.yaml"
    assert error.remedy == "Set that it may."
    assert refusal(f"https://{host}/w.pt", dataclasses.replace(RULES, private=True)) is None


@pytest.mark.parametrize("host", NEVER)
@pytest.mark.parametrize("private", [False, True])
def test_some_addresses_are_never_asked(host: str, private: bool) -> None:
    error = refusal(f"https://{host}/w.pt", dataclasses.replace(RULES, private=private))
    assert error.expected == "the address of a server"
    assert error.found == f"https://{host}/w.pt, which is at an address of the link or of a group"
    assert error.remedy == "Name a server; such addresses are never asked."


def test_every_address_of_a_name_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is private among public ones is enough; a name that does not resolve is for the connection to tell."""

    def resolving(host: str, *_: object, **named: object) -> list[tuple]:
        assert named == {"type": socket.SOCK_STREAM}
        if host == "nowhere.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        found = ["93.184.216.34", "2606:4700::1"] + ["10.0.0.1"] * (host == "mixed.example")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolving)
    assert refusal("https://public.example/") is None
    assert refusal("https://nowhere.example/") is None
    assert "private network" in refusal("https://mixed.example/").found
    monkeypatch.undo()
    assert refusal(f"https://{'a' * 64}.example/") is None  # no name that could be asked for


# -- answers -----------------------------------------------------------------------------------------------------------


def test_an_answer_is_read_in_the_block(server: Server) -> None:
    """And closed after it; headers are sent on."""
    heard: list[str | None] = []
    server.page = lambda page: (heard.append(page.headers["X-Name"]), page.send(b"content"))
    with web.answer("GET", server.url("/w.pt"), HERE, headers={"X-Name": "value"}) as response:
        assert not response.is_closed
        assert response.read() == b"content"
    assert response.is_closed
    assert heard == ["value"]


def test_an_answer_is_closed_also_where_it_was_not_read(server: Server) -> None:
    with pytest.raises(KeyError), web.answer("GET", server.url("/w.pt"), HERE) as response:
        raise KeyError("what the caller looked for")
    assert response.is_closed


@pytest.mark.parametrize(("hops", "asked"), [(0, ["/1"]), (1, ["/1", "/2"]), (2, ["/1", "/2", "/3"])])
def test_redirects_are_followed_as_often_as_the_rules_say(server: Server, hops: int, asked: list[str]) -> None:
    """With no hop at all the answer is the redirect itself; with some, one too many is refused: the message names the
    address that was given."""
    server.page = lambda page: page.send(b"", 302, location=f"/{int(page.path[1:]) + 1}")
    rules = dataclasses.replace(HERE, hops=hops)
    if hops == 0:
        with web.answer("GET", server.url("/1"), rules) as response:
            assert response.status_code == 302
    else:
        with pytest.raises(WeightsError) as caught, web.answer("GET", server.url("/1"), rules):
            pass
        assert caught.value.expected == f"at most {hops} redirects"
        assert caught.value.found == f"more from {server.url('/1')}"
        assert caught.value.remedy == "Name the last one."
    assert server.asked == asked


def test_who_is_at_the_other_end_counts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that was public when it was looked up and is private when it is asked: not a byte is sent."""
    monkeypatch.setattr(web, "check", lambda *_: None)
    url = f"http://me:pw@127.0.0.1:{server.server_port}/w.pt"
    with pytest.raises(WeightsError) as caught, web.answer("GET", url, dataclasses.replace(HERE, private=False)):
        pass
    assert caught.value.found == f"{server.url('/w.pt')}, which is on this machine or in a private network"
    assert server.asked == []


def test_what_a_proxy_is_at_is_its_own_affair(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """We connect to the proxy, which may be private; hosts that go past it are looked at."""
    monkeypatch.setattr(web, "check", lambda *_: None)
    monkeypatch.setenv("http_proxy", server.url(""))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    rules = dataclasses.replace(HERE, private=False)
    with web.answer("GET", "http://weights.example/w.pt", rules) as response:
        assert response.read() == b"content"
    assert server.asked == ["http://weights.example/w.pt"]
    with pytest.raises(WeightsError, match="Expected a public address"), web.answer("GET", server.url("/w.pt"), rules):
        pass


@pytest.mark.parametrize(
    ("variables", "url", "expected"),
    [
        ({}, "http://h.example/", False),
        ({"https_proxy": "http://p:1"}, "http://h.example/", False),
        ({"https_proxy": "http://p:1"}, "https://h.example/", True),
        ({"all_proxy": "http://p:1"}, "https://h.example/", True),
        ({"all_proxy": "http://p:1", "no_proxy": "h.example"}, "https://h.example/", False),
        ({"all_proxy": "http://p:1", "no_proxy": "h.example"}, "https://g.example/", True),
    ],
)
def test_who_goes_by_a_proxy(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, expected: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert web._goes_by_proxy(url) is expected


@pytest.mark.parametrize("length", [None, "1000"], ids=["as long as it comes", "a length that is told"])
def test_a_body_that_drips_has_an_end(server: Server, length: str | None) -> None:
    """Each wait is short, and the whole takes too long: an error of its own, whatever the connection then says."""
    stop = threading.Event()

    def dripping(page: Page) -> None:
        page.send(b"", **({"Content_Length": length} if length else {}))
        with contextlib.suppress(OSError):
            while not stop.wait(0.02):
                page.wfile.write(b"x")

    server.page = dripping
    rules = dataclasses.replace(HERE, whole_s=0.2, wait_s=10)
    with pytest.raises(web.TooSlowError) as caught, web.answer("GET", server.url("/w.pt"), rules) as response:
        response.read()
    stop.set()
    assert str(caught.value) == "it took longer than 0 s"


def test_a_secure_connection_has_an_end_too(
    server: Server, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS puts another connection in the place of the first: that one is ended."""
    server.socket = certificate.wrap_socket(server.socket, server_side=True)
    stop = threading.Event()

    def dripping(page: Page) -> None:
        page.send(b"")
        with contextlib.suppress(OSError):
            while not stop.wait(0.02):
                page.wfile.write(b"x")

    server.page = dripping
    rules = dataclasses.replace(HERE, schemes=("https",), whole_s=0.5, wait_s=10)
    url = f"https://localhost:{server.server_port}/w.pt"
    with pytest.raises(web.TooSlowError), web.answer("GET", url, rules) as response:
        response.read()
    stop.set()


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Of "localhost", signed by itself and trusted in this test."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "localhost.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*form) + made.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_a_server_that_says_nothing_is_given_up(server: Server) -> None:
    """After the longest wait for the next bytes, not only when the whole has taken too long; that is httpx's error."""
    stop = threading.Event()
    server.page = lambda page: stop.wait(10)
    rules = dataclasses.replace(HERE, wait_s=0.1, whole_s=3)
    with pytest.raises(httpx.ReadTimeout), web.answer("GET", server.url("/w.pt"), rules):
        pass
    stop.set()


def test_a_connection_that_comes_too_late_is_ended(server: Server) -> None:
    """One that is made when the time is over already."""
    watch = web._Watch(3600)
    with watch, socket.create_connection(server.server_address) as early:
        watch.add(early)
        watch._end()
        with socket.create_connection(server.server_address) as late:
            watch.add(late)
            assert [b"", b""] == [early.recv(1), late.recv(1)]
    assert watch.is_over


def test_addresses_are_in_no_log(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """httpx would log each; afterwards its loggers are as they were, also after an error."""
    levels = {"httpx": logging.DEBUG, "httpcore": logging.INFO}
    for name, level in levels.items():
        caplog.set_level(level, name)
    with web.answer("GET", server.url("/s3cret"), HERE) as response:
        response.read()
    with pytest.raises(KeyError), web.answer("GET", server.url("/s3cret"), HERE):
        raise KeyError
    assert "s3cret" not in caplog.text
    assert levels == {name: logging.getLogger(name).level for name in levels}
    with httpx.Client() as client:
        client.get(server.url("/said"))
    assert "/said" in caplog.text
