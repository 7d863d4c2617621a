"""Telling the webhook, and telling nobody its address."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pipeline.core.errors import GraftlineError, ParamsError, ServiceError
from pipeline.flow_params import Notify
from pipeline.release import notify
from pipeline.release.decide import Outcome

OUTCOME = Outcome("held", "digits", 2, 1, None, "floor: too low", "handoff/v1", ("parity",), ("floor",))


class Hook(HTTPServer):
    """A webhook on this machine that remembers what it was sent; the last part of the path is the answer's status."""

    def __init__(self) -> None:
        self.received: list[dict] = []
        super().__init__(("127.0.0.1", 0), Handler)

    def url(self, status: int = 200) -> str:
        return f"http://127.0.0.1:{self.server_port}/s3cret/{status}"


class Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        self.server.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(int(self.path.rsplit("/", 1)[1]))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_notice_is_for_people_and_machines(hook: Hook) -> None:
    """Chat services find `text`, machines find the fields."""
    assert notify.send(Notify(webhook=hook.url(), allow_private=True), notify.notice(OUTCOME, "shop"))
    (sent,) = hook.received
    assert sent["text"].startswith("Graftline shop: digits held. Gates: 1 passed, 1 failed (floor)")
    assert ("held", 2, 1, ["floor"]) == (sent["kind"], sent["version"], sent["champion"], sent["failed_gates"])


def test_a_part_of_the_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in any other address; a missing variable is named."""
    webhook = Notify(webhook="https://hooks.example.org/services/$GRAFTLINE_TEST_KEY")
    with pytest.raises(ParamsError, match="a value in the environment variable GRAFTLINE_TEST_KEY"):
        notify.address(webhook)
    monkeypatch.setenv("GRAFTLINE_TEST_KEY", "abc")
    assert notify.address(webhook) == "https://hooks.example.org/services/abc"


def test_an_address_may_begin_with_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """And go on after it; what the variable holds must begin a URL, and is in no message."""
    webhook = Notify(webhook="$GRAFTLINE_TEST_BASE/services/${GRAFTLINE_TEST_KEY}")
    monkeypatch.setenv("GRAFTLINE_TEST_KEY", "abc")
    with pytest.raises(ParamsError, match="a value in the environment variable GRAFTLINE_TEST_BASE; found no such"):
        notify.address(webhook)
    monkeypatch.setenv("GRAFTLINE_TEST_BASE", "s3cret")
    with pytest.raises(ParamsError, match="beginning of the webhook's URL in the environment variable") as caught:
        notify.address(webhook)
    assert "s3cret" not in str(caught.value)
    assert caught.value.expected.endswith(" GRAFTLINE_TEST_BASE")
    assert caught.value.found == "another value (not shown: it may hold a secret)"
    assert caught.value.remedy == "export GRAFTLINE_TEST_BASE=https://…, or set notify.webhook to null."
    monkeypatch.setenv("GRAFTLINE_TEST_BASE", "https://hooks.example.org")
    assert notify.address(webhook) == "https://hooks.example.org/services/abc"


@pytest.mark.parametrize(
    "written",
    [
        "$hook/x",
        "${hook}/x",
        "${HOOK",
        "${hook",
        "$HOOK}",
        "$hook}",
        "$HOOK}/x",
        "$",
        "$/x",
        "https://h.example/${key}",
    ],
)
def test_what_only_looks_like_a_variable_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """Also where it is set: small letters within an address, one brace, no name. The address is not shown."""
    for name in ("hook", "HOOK", "key"):
        monkeypatch.setenv(name, "https://hooks.example.org")
    with pytest.raises(ParamsError) as caught:
        notify.address(Notify(webhook=written))
    error = caught.value
    assert error.expected == "$NAME or ${NAME} where a variable stands in the address, its name in capitals"
    assert error.found == "a $ with something else after it (not shown: it may be a secret)"
    assert error.where == "notify.webhook in params.yaml"
    assert error.remedy == (
        "Write the variable's name in capitals, here and where it is exported, with both braces or none."
    )


@pytest.mark.parametrize("written", ["$hook", "${hook}", "$HOOK", "${HOOK}"])
def test_a_variable_that_is_the_whole_address_may_have_small_letters(
    monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """Its name is in the message where it holds no URL."""
    name = written.strip("${}")
    monkeypatch.setenv(name, "https://hooks.example.org/$b")
    assert notify.address(Notify(webhook=written)) == "https://hooks.example.org/$b"
    monkeypatch.setenv(name, "s3cret")
    with pytest.raises(ParamsError) as caught:
        notify.address(Notify(webhook=written))
    assert caught.value.expected == f"the webhook's URL in the environment variable {name}"
    assert caught.value.remedy == f"export {name}=https://…, or set notify.webhook to null."


def test_a_dollar_sign_in_an_address_stays() -> None:
    assert notify.address(Notify(webhook="https://h.example/a$b")) == "https://h.example/a$b"


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("http://127.0.0.1/x", "If that server is yours and meant, set notify.allow_private: true."),
        ("https:///x", "Correct notify.webhook, or the variable it names: https://, then a host; or set it to null."),
    ],
)
def test_a_refused_address_names_the_setting(url: str, remedy: str) -> None:
    """A webhook has neither `insecure` nor a digest, and `allow_private` is a key of `notify`."""
    with pytest.raises(ParamsError) as caught:
        notify.check(Notify(webhook=url))
    assert (caught.value.where, caught.value.remedy) == ("notify.webhook in params.yaml", remedy)


def test_no_webhook_is_fine() -> None:
    """Nobody to tell is no error."""
    assert not notify.send(Notify(), {})


def test_webhook_from_the_environment(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """`$NAME` is looked up when it is needed; a missing variable is named."""
    with pytest.raises(ParamsError, match="environment variable GRAFTLINE_TEST_HOOK"):
        notify.send(Notify(webhook="$GRAFTLINE_TEST_HOOK"), {})
    monkeypatch.setenv("GRAFTLINE_TEST_HOOK", "s3cret")
    with pytest.raises(ParamsError, match="found another value") as caught:
        notify.address(Notify(webhook="$GRAFTLINE_TEST_HOOK"))
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("GRAFTLINE_TEST_HOOK", hook.url())
    assert notify.send(Notify(webhook="$GRAFTLINE_TEST_HOOK", allow_private=True), {"text": "hello"})


def test_bad_answers_are_errors_without_the_address(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal and a dead server are service errors; the secret is in no message, no cause and no log line."""
    caplog.set_level(logging.DEBUG)
    errors: list[GraftlineError] = []
    for url in (hook.url(status=500), "http://127.0.0.1:9/s3cret"):
        with pytest.raises(ServiceError) as caught:
            notify.send(Notify(webhook=url, allow_private=True), {})
        errors.append(caught.value)
    assert [
        "The webhook (notify.webhook) answered 500.",
        "The webhook (notify.webhook) did not answer: ConnectError.",
    ] == [str(error) for error in errors]
    assert all(error.__cause__ is None and error.__suppress_context__ for error in errors[1:])
    assert "s3cret" not in caplog.text


def test_settings_do_not_show_it() -> None:
    """Printing or dumping the parameters hides the address."""
    params = Notify(webhook="https://hooks/s3cret")
    assert "s3cret" not in f"{params!r} {params.model_dump(mode='json')} {params.model_dump_json()}"


def test_webhook_must_be_an_address() -> None:
    """A value that cannot be posted to is refused when params are read, without repeating it."""
    with pytest.raises(ValueError, match="must start with https://") as caught:
        Notify(webhook="s3cret")
    assert "s3cret" not in str(caught.value)
