"""Servers as processes: started, found again, stopped, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows import services
from flows.services import HOST, Service
from pipeline.core.errors import InputError, ServiceError


def http_server(port):
    """Python's own, as a service."""
    url = f"http://{HOST}:{port}"
    return Service("toy", [sys.executable, "-m", "http.server", str(port), "--bind", HOST], url, health_url=url)


@pytest.fixture
def service():
    return http_server(services.port_for(0, "toy"))


@pytest.fixture
def workspace(tmp_path):
    """With a space in its path, as people have it."""
    folder = tmp_path / "my work"
    folder.mkdir()
    return folder


def gone(pid, within_s=10.0):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_a_service_is_found_again_by_its_name_until_it_is_stopped(workspace, service):
    """Another process can stop what this one started."""
    running = services.launch(service, workspace)
    services.wait(running)
    found = services.find(workspace, "toy")
    assert running == found
    assert found.healthy
    services.stop(found, workspace)
    assert services.find(workspace, "toy") is None
    assert gone(running.pid)


def test_a_service_that_ends_at_once_is_an_error_with_the_end_of_its_log(workspace, service):
    """The reason is in the log, so the message shows it."""
    broken = service._replace(command=[sys.executable, "-c", "raise SystemExit('no such database')"])
    running = services.launch(broken, workspace)
    with pytest.raises(ServiceError, match=r"toy ended while it started\.\n.*toy\.log:\n  no such database"):
        services.wait(running)


def test_a_service_that_never_answers_is_an_error(workspace, service, monkeypatch):
    """After ``START_WITHIN_S``."""
    monkeypatch.setattr(services, "START_WITHIN_S", 0.3)
    running = services.launch(service._replace(command=["sleep", "60"]), workspace)
    with pytest.raises(ServiceError, match="toy did not answer within"):
        services.wait(running)
    services.stop(running, workspace)
    assert gone(running.pid)


def test_a_deaf_service_and_its_children_are_made_to_end(workspace, service, monkeypatch):
    """SIGTERM first, SIGKILL for who ignores it."""
    monkeypatch.setattr(services, "STOP_WITHIN_S", 0.3)
    deaf = (
        "trap '' TERM; (trap '' TERM; echo $BASHPID > child; while :; do sleep 0.1; done) & while :; do sleep 0.1; done"
    )
    running = services.launch(service._replace(command=["bash", "-c", deaf]), workspace)
    child = workspace / "child"
    while not (child.is_file() and child.read_text().strip()):
        time.sleep(0.02)
    services.stop(running, workspace)
    assert gone(running.pid)
    assert gone(int(child.read_text()))


def test_a_process_that_got_the_old_id_is_not_ours(workspace, service):
    """Ids are used again; a record whose start time does not fit must not get a stranger killed."""
    stale = services.Running(name="toy", pid=os.getpid(), started=1.0, url="", health_url="", health_text="", log="")
    stale.save(workspace / services.FOLDER / "toy.json")
    assert services.find(workspace, "toy") is None


def test_health_asks_for_the_text_too(workspace, service):
    """A page that answers 200 may still say that nobody is there."""
    running = services.launch(service, workspace)
    services.wait(running)
    assert running.healthy
    assert not running.model_copy(update={"health_text": "READY"}).healthy
    services.stop(running, workspace)


def test_a_port_in_use_is_the_users_to_mend(workspace, service):
    """The message says which option helps."""
    running = services.launch(service, workspace)
    services.wait(running)
    port = int(service.url.rpartition(":")[2])
    with pytest.raises(InputError) as raised:
        services.port_for(port, "mlflow")
    assert "--mlflow-port" in str(raised.value)
    assert f"port {port} in use" in str(raised.value)
    services.stop(running, workspace)


def test_a_temporary_service_ends_with_its_block(workspace, service):
    """And leaves no record: nobody else may rely on it."""
    with services.temporary(service, workspace) as running:
        services.wait(running)
        family = [running.pid, *(child.pid for child in psutil.Process(running.pid).children(recursive=True))]
        assert services.find(workspace, "toy") is None
    assert len(family) == 2
    assert all(gone(pid) for pid in family)


def test_a_temporary_service_ends_when_its_owner_is_killed(workspace, service):
    """SIGKILL lets nobody clean up; the guard does."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, service.url.rpartition(":")[2], str(workspace)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 2
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert all(gone(pid) for pid in pids)


OWNER = f"""
import sys, time, psutil
from pathlib import Path
from flows import services
port, workspace = sys.argv[1], Path(sys.argv[2])
url = f"http://{HOST}:{{port}}"
service = services.Service("toy", [sys.executable, "-m", "http.server", port, "--bind", "{HOST}"], url, health_url=url)
with services.temporary(service, workspace) as running:
    services.wait(running)
    print(running.pid, *(child.pid for child in psutil.Process(running.pid).children(recursive=True)), flush=True)
    time.sleep(60)
"""
