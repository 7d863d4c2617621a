"""What is asked of other hosts by HTTP: under which schemes, at which addresses, for how long and for how much.

An address in params.yaml may come from somebody else, and a server that is asked may send us on to another one. So
every hop is checked: its scheme, each address that its name resolves to, and, once connected, the address at the other
end, because a name may resolve differently a moment later. Addresses of this machine and of private networks are asked
only where the user allows it. Those of the link (169.254.0.0/16, fe80::/10) never are: on a rented machine the keys to
the account are handed out there.

Where the environment names a proxy (HTTPS_PROXY), that is what we connect to, and it resolves names; then the scheme of
every hop is checked, and every address that is known here.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

from pipeline.core.errors import InputError

if TYPE_CHECKING:
    import httpx

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_CHATTY = ("httpx", "httpcore")
"""Loggers that name every URL they call."""

_KEYS_OF_RENTED_MACHINES = frozenset(
    ipaddress.ip_address(text) for text in ("168.63.129.16", "100.100.100.200", "fd00:ec2::254", "169.254.169.254")
)
"""Where Azure, Alibaba and Amazon hand out keys or what leads to them; two of them are no addresses of the link."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class Remedies:
    """What to do about an address that is refused: each names a setting that its user has."""

    scheme: str
    """It has no host, or another scheme."""
    private: str
    """It is on this machine or in a private network."""
    hops: str = "Give the final address."
    """Its server sends us on too often."""


@dataclass(frozen=True)
class Rules:
    """What may be asked, and what to say of an address that may not."""

    error: type[InputError]
    where: str
    """The setting that names the address."""
    remedies: Remedies
    schemes: tuple[str, ...] = ("https",)
    private: bool = False
    """Ask this machine and private networks too."""
    hops: int = 0
    """How many times a server may send us on."""
    wait_s: float = 30.0
    """Longest wait for a connection or for the next bytes."""
    whole_s: float = 3600.0
    """Longest time for all of it, so that a server which sends a byte now and then does not hold us for ever."""
    shown: Callable[[str], str] | None = None
    """How an address is named in a message; None leaves credentials and query out."""

    def show(self, url: str) -> str:
        return self.shown(url) if self.shown else without_secrets(url)


class TooSlowError(TimeoutError):
    """The whole took longer than the rules allow."""


@contextlib.contextmanager
def answer(method: str, url: str, rules: Rules, **request: Any) -> Iterator[httpx.Response]:
    """The server's answer, its body not yet read; ``request`` is what ``httpx.Client.build_request`` takes.

    Raises:
        InputError: of the rules' kind: an address that may not be asked.
        TooSlowError: it took longer than ``whole_s``, also while the body is read in the block.
        httpx.HTTPError, httpx.InvalidURL: no address, or no usable answer.
    """
    import httpx

    watch = _Watch(rules.whole_s)
    with _silent(), watch, httpx.Client(timeout=rules.wait_s, follow_redirects=False) as client:
        try:
            following: httpx.Request | None = client.build_request(method, url, **request)
            for _ in range(rules.hops + 1):
                assert following is not None
                check(str(following.url), rules)
                following.extensions = {**following.extensions, "trace": _Peer(str(following.url), rules, watch)}
                response = client.send(following, stream=True)
                following = response.next_request if rules.hops else None
                if following is None:
                    try:
                        yield response
                    finally:
                        response.close()
                    if watch.is_over:  # an answer without a length ends where its connection does
                        raise _too_slow(rules)
                    return
                response.close()
            _refuse(rules, f"at most {rules.hops} redirects", f"more from {rules.show(url)}", rules.remedies.hops)
        except httpx.HTTPError as error:
            if watch.is_over:
                raise _too_slow(rules) from error
            raise


def check(url: str, rules: Rules) -> None:
    """See that an address may be asked: its scheme, and every address that its name resolves to.

    A name that does not resolve passes: connecting will say so, or a proxy knows it.

    Raises:
        InputError: of the rules' kind.
    """
    host = check_scheme(url, rules)
    with contextlib.suppress(OSError, UnicodeError):
        for *_, place in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
            _check_address(str(place[0]), url, rules)


def check_scheme(url: str, rules: Rules) -> str:
    """The half of :func:`check` that asks nobody; returns the host.

    Raises:
        InputError: of the rules' kind.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # an IPv6 address without its bracket, a port that is no number
        host = None
    if not host or parts.scheme.lower() not in rules.schemes:
        _refuse(rules, f"an {rules.schemes[0]}:// address", rules.show(url), rules.remedies.scheme)
    return host


def without_secrets(url: str, *, path: bool = True) -> str:
    """The address without user, password and query, which may hold tokens; without ``path`` its host alone."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    host = parts.netloc.rpartition("@")[2]
    bare = parts._replace(netloc=host, query="", fragment="")
    return urlunsplit(bare if path else bare._replace(path=""))


def _too_slow(rules: Rules) -> TooSlowError:
    return TooSlowError(f"it took longer than {rules.whole_s:,.0f} s")


def _check_address(found: str, url: str, rules: Rules) -> None:
    address = _innermost(ipaddress.ip_address(found))
    if address.is_link_local or address.is_multicast or address in _KEYS_OF_RENTED_MACHINES:
        _refuse(
            rules,
            "the address of a server",
            f"{rules.show(url)}, which is at an address of the link or of a group",
            "Name a server; such addresses are never asked.",
        )
    if not (address.is_global or rules.private):
        _refuse(
            rules,
            "a public address",
            f"{rules.show(url)}, which is on this machine or in a private network",
            rules.remedies.private,
        )


def _innermost(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return inner or address
    return address


def _refuse(rules: Rules, expected: str, found: str, remedy: str) -> NoReturn:
    raise rules.error(expected=expected, found=found, where=rules.where, remedy=remedy)


class _Peer:
    """Told by httpx what it does: looks at who is at the other end before a byte of the request is sent."""

    def __init__(self, url: str, rules: Rules, watch: _Watch) -> None:
        self._url, self._rules, self._watch = url, rules, watch

    def __call__(self, event: str, details: dict[str, Any]) -> None:
        if event not in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            return
        connection = details["return_value"].get_extra_info("socket")  # TLS puts another in the place of the first
        self._watch.add(connection)
        if not _goes_by_proxy(self._url):
            _check_address(str(connection.getpeername()[0]), self._url, self._rules)


class _Watch:
    """Ends every connection of one exchange when its time is over: whoever waits for bytes then finds no more."""

    def __init__(self, seconds: float) -> None:
        self.connections: list[socket.socket] = []
        self.is_over = False
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def add(self, connection: socket.socket) -> None:
        """Watch this one too; where the time is over already, end it at once."""
        self.connections.append(connection)
        if self.is_over:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        for connection in self.connections:
            with contextlib.suppress(OSError):  # closed already
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # an SSLSocket's own forgets its state at once


def _goes_by_proxy(url: str) -> bool:
    parts, proxies = urlsplit(url), urllib.request.getproxies()
    is_named = parts.scheme in proxies or "all" in proxies
    return is_named and not urllib.request.proxy_bypass(parts.hostname or "")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """httpx logs each request's URL at INFO: ours may hold secrets."""
    before = {name: logging.getLogger(name).level for name in _CHATTY}
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
