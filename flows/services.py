"""Servers and workers as processes of this machine: start one, wait until it is healthy, find it again, stop it.

A :class:`Service` is what to start; a :class:`Running` is one that was started, kept as
``.graftline/servers/<name>.json`` so that another process can find it. Nothing here knows what the command is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import httpx
import psutil

from pipeline.core.errors import InputError, ServiceError
from pipeline.core.files import Document
from pipeline.core.processes import end_within

FOLDER = ".graftline/servers"
OWNER_ONLY = 0o077
"""Umask of the servers, whose databases and logs are their owner's; a worker's runs write what others may read."""

HOST = "127.0.0.1"
START_WITHIN_S = 120.0
STOP_WITHIN_S = 10.0
LOOK_EVERY_S = 0.1
LOG_LINES_SHOWN = 15


class Service(NamedTuple):
    """A command to start, and the address that answers 200 once it can be used."""

    name: str
    command: list[str]
    url: str
    """Where people find it."""
    health_url: str
    health_text: str = ""
    """What the answer must contain, too."""
    environment: Mapping[str, str] = MappingProxyType({})
    umask: int = -1
    """For what it writes; -1 leaves the user's."""


class Running(Document):
    """A service that was started. ``started`` (seconds since 1970, of the process) tells it from a later process that
    was given the same id."""

    name: str
    pid: int
    started: float
    url: str
    health_url: str
    health_text: str
    log: str

    @property
    def process(self) -> psutil.Process | None:
        """The process; None if it has ended."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if same else None

    @property
    def healthy(self) -> bool:
        return self.process is not None and _answers(self.health_url, self.health_text)


def find(workspace: Path, name: str) -> Running | None:
    """The service of this name that was started in the workspace and still lives."""
    path = _record(workspace, name)
    running = Running.load(path) if path.is_file() else None
    return running if running and running.process else None


def launch(service: Service, workspace: Path) -> Running:
    """Start a service that outlives this process; it is not healthy yet."""
    running = _spawn(service, service.command, workspace)
    running.save(_record(workspace, service.name))
    return running


def wait(running: Running) -> None:
    """Until it is healthy.

    Raises:
        ServiceError: it ended, or did not answer within ``START_WITHIN_S``; the end of its log is in the message.
    """
    deadline = time.monotonic() + START_WITHIN_S
    while not _answers(running.health_url, running.health_text):
        if running.process is None:
            raise ServiceError(f"{running.name} ended while it started.\n{_end_of_log(running)}")
        if time.monotonic() > deadline:
            raise ServiceError(f"{running.name} did not answer within {START_WITHIN_S:.0f} s.\n{_end_of_log(running)}")
        time.sleep(LOOK_EVERY_S)


def stop(running: Running, workspace: Path) -> None:
    """Ask the process and its descendants to end; after ``STOP_WITHIN_S``, make them."""
    _end(running)
    _record(workspace, running.name).unlink(missing_ok=True)


@contextlib.contextmanager
def temporary(service: Service, workspace: Path) -> Iterator[Running]:
    """A service that ends with the block, and with this process even if that is killed. Not healthy yet: the caller
    may have something to do before it calls :func:`wait`."""
    running = _spawn(service, [sys.executable, "-m", "flows.guard", *service.command], workspace)
    try:
        yield running
    finally:
        _end(running)


def port_for(wanted: int, name: str) -> int:
    """``wanted`` if it is free; any free port for 0.

    Raises:
        InputError: somebody listens there already.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            raise InputError(
                expected=f"a free port for {name}",
                found=f"port {wanted} in use",
                where=f"{HOST} on this machine",
                remedy=f"Stop what listens there, or choose another with --{name}-port (0 takes any free one).",
            ) from None
        return probe.getsockname()[1]


def _spawn(service: Service, command: list[str], workspace: Path) -> Running:
    log = workspace / FOLDER / f"{service.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb", opener=_for_its_owner) as output:
        process = subprocess.Popen(
            command,
            cwd=workspace,
            env={**os.environ, **service.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            umask=service.umask,
            start_new_session=True,  # a Ctrl-C in the terminal is for us; we then stop it in order
        )
    return Running(
        name=service.name,
        pid=process.pid,
        started=psutil.Process(process.pid).create_time(),
        url=service.url,
        health_url=service.health_url,
        health_text=service.health_text,
        log=str(log),
    )


def _for_its_owner(path: str, flags: int) -> int:
    """A log may quote addresses: nobody else reads it."""
    return os.open(path, flags, 0o600)


def _answers(url: str, text: str) -> bool:
    try:
        answer = httpx.get(url, timeout=2.0, trust_env=False)  # loopback: no proxy has a say in it
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK and text in answer.text


def _end(running: Running) -> None:
    process = running.process
    if process is None:
        return
    family = [process, *process.children(recursive=True)]  # listed first: orphans can no longer be found
    process.send_signal(signal.SIGTERM)
    end_within(STOP_WITHIN_S, family)


def _end_of_log(running: Running) -> str:
    lines = Path(running.log).read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([f"  {running.log}:", *(f"  {line}" for line in lines[-LOG_LINES_SHOWN:])])


def _record(workspace: Path, name: str) -> Path:
    return workspace / FOLDER / f"{name}.json"
