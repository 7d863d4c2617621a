"""A web server on this machine, for tests of what is asked and what is made of the answer."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Page(http.server.BaseHTTPRequestHandler):
    """One request, and what answers it."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.page(self)

    do_POST = do_GET

    def send(self, content: bytes, status: int = 200, **headers: object) -> None:
        """The whole answer; ``_`` in a header's name stands for ``-``."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """Answers as ``page`` does, and notes which paths were asked for."""

    daemon_threads = True

    def __init__(self, page: Callable[[Page], object]) -> None:
        self.asked: list[str] = []
        self.page = page
        super().__init__(("127.0.0.1", 0), Page)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_port}{path}"


@contextmanager
def serving(server: Server) -> Iterator[None]:
    """Until the block ends."""
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield
        server.shutdown()
