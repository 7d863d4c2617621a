"""Who may read and write what a run leaves, whatever the user's umask."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows import prefect_server, services
from infra import servers
from pipeline.core import files
from pipeline.tracking.session import open_session


@pytest.fixture(params=[0o000, 0o022, 0o002], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def writable_by_strangers(folder: Path) -> list[Path]:
    return [
        path for path in [folder, *folder.rglob("*")] if not path.is_symlink() and path.stat().st_mode & stat.S_IWOTH
    ]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_put_in_place_is_not_for_everyone_to_write(tmp_path: Path, umask: int) -> None:
    """Files, folders and what is in them; readers keep what the umask gives them."""
    place = tmp_path / "place"
    place.mkdir(mode=0o755)
    files.write_text(place / "file.json", "{}")
    with files.replacing(place / "folder") as fresh:
        (fresh / "below").mkdir(parents=True)
        (fresh / "below" / "model.onnx").write_bytes(b"x")
        (fresh / "link").symlink_to("below")
    assert [] == writable_by_strangers(place)
    assert mode(place / "file.json") & 0o444 == 0o444 & ~umask
    assert mode(place / "folder/below/model.onnx") & 0o444 == 0o444 & ~umask


def test_the_tracking_database_is_its_owners(tmp_path: Path) -> None:
    """Params, addresses and names of data are in it: 0600, and so is what sqlite puts beside it."""
    before = os.umask(0)
    try:
        open_session(tmp_path, "sqlite:///.graftline/mlflow.db", "graftline")
    finally:
        os.umask(before)
    assert 0o600 == mode(tmp_path / ".graftline/mlflow.db")


def _listener(folder: Path) -> services.Service:
    """Stands for a server: writes a database and a word to its log, and listens."""
    code = (
        "import http.server, pathlib; pathlib.Path('own.db').touch(); print('up', flush=True);"
        "s = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler);"
        "pathlib.Path('port').write_text(str(s.server_port)); s.serve_forever()"
    )
    return services.Service("toy", [sys.executable, "-c", code], url="", health_url="", umask=services.OWNER_ONLY)


def test_a_servers_database_and_log_are_its_owners(tmp_path: Path) -> None:
    """Those of the MLflow and the Prefect server are started so; a worker keeps the user's umask, for its runs write
    what deployment reads."""
    running = services.launch(_listener(tmp_path), tmp_path)
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "port").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert 0o600 == mode(tmp_path / "own.db")
        assert 0o600 == mode(Path(running.log))
    finally:
        services.stop(running, tmp_path)
    assert services.OWNER_ONLY == prefect_server.service(tmp_path, 4200).umask
    assert -1 == servers._worker("http://127.0.0.1:4200", "http://127.0.0.1:5000").umask


def test_servers_are_told_to_listen_on_loopback(tmp_path: Path) -> None:
    """MLflow's also answers only who names it so: a page in a browser cannot reach it under another name."""
    (tmp_path / "params.yaml").write_text("model: toys\n")
    for service in (servers._mlflow(tmp_path, 0), prefect_server.service(tmp_path, 4200)):
        told = service.command[service.command.index("--host") + 1]
        assert "127.0.0.1" == told
        assert services.OWNER_ONLY == service.umask
    command = servers._mlflow(tmp_path, 0).command
    allowed = command[command.index("--allowed-hosts") + 1].split(",")
    assert {"127.0.0.1", "localhost"} == {host.rpartition(":")[0] for host in allowed}


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_running_server_listens_on_loopback_only(tmp_path: Path) -> None:
    """Asked of the system, for MLflow's server and its children."""
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "params.yaml").write_text("model: toys\n")
    with services.temporary(servers._mlflow(tmp_path, 0), tmp_path) as running:
        services.wait(running)
        family = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
        places = {
            connection.laddr.ip
            for process in family
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert places
    assert places <= {"127.0.0.1", "::1"}
    assert socket.gethostbyname("localhost") == "127.0.0.1"
    assert 0o600 == mode(tmp_path / ".graftline/mlflow.db")
