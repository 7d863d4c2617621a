"""``make servers``: a deployment on a real Prefect server, run by a real worker, recorded by a real MLflow server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]
SERVERS = REPOSITORY / "infra" / "servers.py"
FREE_PORTS = ("--mlflow-port", "0", "--prefect-port", "0")
QUICK = (
    "ingest.source.images_per_class=20",
    "backbone.pretrain.epochs=1",
    "train.strategy.name=probe",
    "gate.gates.accuracy_floor.min=0.3",
    "gate.gates.worst_class_recall.min=0.0",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def environment(tmp_path):
    """No Prefect settings but those of this test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PREFECT_HOME": str(tmp_path / "prefect home"), "PATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def workspace(tmp_path, environment):
    """A small one, in a path with a space."""
    folder = tmp_path / "my digits"
    _call(environment, tmp_path, "graftline", "init", str(folder))
    from pipeline import params
    from pipeline.graph import dvcfile

    params.assign(folder, list(QUICK))
    dvcfile.write(folder, params.load(folder))
    return folder


@pytest.fixture
def servers(workspace, environment):
    """Started on free ports; stopped whatever happens, and none of their processes is left."""
    _call(environment, workspace, sys.executable, str(SERVERS), "start", *FREE_PORTS)
    records = [json.loads(path.read_text()) for path in (workspace / ".graftline/servers").glob("*.json")]
    family = [psutil.Process(record["pid"]) for record in records]
    family += [child for process in list(family) for child in process.children(recursive=True)]
    yield {record["name"]: record["url"] for record in records}
    _call(environment, workspace, sys.executable, str(SERVERS), "stop")
    _, alive = psutil.wait_procs(family, timeout=10)
    assert [] == alive
    assert [] == list((workspace / ".graftline/servers").glob("*.json"))


def _call(environment, folder, *command, timeout_s=600):
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_deployed_flow_is_run_by_the_worker_and_recorded_by_mlflow(servers, workspace, environment):
    """``prefect deploy --all``, a run of the deployment, and the champion is in the registry and in the hand-off; the
    same run from the terminal then finds nothing to do."""
    api = f"{servers['prefect']}/api"
    environment = environment | {"PREFECT_API_URL": api}
    prefect = (sys.executable, "-m", "prefect", "--no-prompt")
    _call(environment, workspace, *prefect, "deploy", "--all")

    deployment = httpx.get(f"{api}/deployments/name/retrain/digits", trust_env=False).json()
    assert "0 3 * * *" == deployment["schedules"][0]["schedule"]["cron"]
    assert 1 == deployment["global_concurrency_limit"]["limit"]

    _call(environment, workspace, *prefect, "deployment", "run", "retrain/digits", "--watch", "--watch-timeout", "600")
    runs = httpx.post(f"{api}/flow_runs/filter", json={}, trust_env=False).json()
    shown = [run for run in runs if run["state_type"] != "SCHEDULED"]
    assert ["Promoted"] == [run["state_name"] for run in shown], (
        workspace / ".graftline/servers/worker.log"
    ).read_text()
    assert (workspace / "handoff/current/model.onnx").is_file()
    version = httpx.get(
        f"{servers['mlflow']}/api/2.0/mlflow/registered-models/alias",
        params={"name": "digits", "alias": "champion"},
        trust_env=False,
    ).json()
    assert "1" == version["model_version"]["version"]

    said = _call(environment, workspace, "graftline", "run")
    closing_line = next(line for line in said.splitlines() if line.startswith("Gates: "))
    assert closing_line.endswith("nothing changed · champion digits v1 · handoff/v1")


def test_the_schedule_makes_runs(servers, workspace, environment):
    """A Prefect server that cannot write scheduled runs down says so in its log only: nothing would ever run at night.
    (Seen with Prefect 3.8.8 on SQLAlchemy 2.1.)"""
    api = f"{servers['prefect']}/api"
    _call(
        environment | {"PREFECT_API_URL": api},
        workspace,
        sys.executable,
        "-m",
        "prefect",
        "--no-prompt",
        "deploy",
        "--all",
    )
    deadline = time.monotonic() + 120
    scheduled = []
    while not scheduled and time.monotonic() < deadline:
        time.sleep(1)
        scheduled = httpx.post(f"{api}/flow_runs/filter", json={}, trust_env=False).json()
    assert scheduled, (workspace / ".graftline/servers/prefect.log").read_text()[-3000:]
    assert {"SCHEDULED"} == {run["state_type"] for run in scheduled}


def test_ctrl_c_stops_what_start_waits_for(tmp_path, environment):
    """``start --wait`` stays in the foreground; after a Ctrl-C nothing of it runs."""
    workspace = tmp_path / "my work"
    workspace.mkdir()
    (workspace / "params.yaml").write_text("model: digits\n")
    process = subprocess.Popen(
        [sys.executable, str(SERVERS), "start", "--wait", *FREE_PORTS],
        cwd=workspace,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    said = []
    while not said or "Ctrl-C" not in said[-1]:
        said.append(process.stdout.readline())
        assert said[-1], "it ended early"
    assert ["mlflow", "prefect", "worker"] == [line.split()[0] for line in said[:3]]
    assert all("healthy" in line for line in said[:3])
    records = [json.loads(path.read_text()) for path in (workspace / ".graftline/servers").glob("*.json")]
    process.send_signal(signal.SIGINT)
    assert 0 == process.wait(60)
    assert not [record["pid"] for record in records if psutil.pid_exists(record["pid"])]
