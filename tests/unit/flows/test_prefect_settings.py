"""The environment Prefect is imported in, the choice of its server, and what is deployed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flows import environment, prefect_server
from flows.deployments import serve
from pipeline.core.errors import ParamsError

REPOSITORY = Path(__file__).parents[3]
TEMPLATE = REPOSITORY / "pipeline/templates/prefect.yaml"


def test_importing_a_flow_turns_telemetry_off_unless_the_user_said_otherwise():
    """Before Prefect is imported, which reads it once."""
    code = "import os, flows; print(os.environ['PREFECT_SERVER_ANALYTICS_ENABLED'], os.environ['DO_NOT_TRACK'])"
    kept = {name: value for name, value in os.environ.items() if name not in environment.DEFAULTS}
    said = subprocess.check_output([sys.executable, "-c", code], env=kept | {"DO_NOT_TRACK": "1"}, text=True)
    assert "false 1\n" == said


def test_importing_flows_imports_no_prefect():
    """``graftline --help`` and ``--inline`` pay nothing for it."""
    code = "import sys, flows, flows.launch, flows.inline; sys.exit('prefect' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code]).returncode


def test_the_database_lies_in_the_workspace(tmp_path, monkeypatch):
    """Its path may hold spaces; a database that the user has configured is left alone."""
    monkeypatch.delenv(environment.DATABASE, raising=False)
    workspace = tmp_path / "my work"
    expected = f"sqlite+aiosqlite:///{workspace}/.graftline/prefect.db"
    assert {environment.DATABASE: expected} == prefect_server.service(workspace, 4200).environment
    monkeypatch.setenv(environment.DATABASE, "postgresql+asyncpg://server/prefect")
    assert "postgresql+asyncpg://server/prefect" in prefect_server.service(workspace, 4200).environment.values()


def test_the_servers_listen_on_loopback_only(tmp_path):
    """They ask nobody who they are."""
    command = prefect_server.service(tmp_path, 4200).command
    assert "127.0.0.1" == command[command.index("--host") + 1]


def test_a_configured_server_is_used_as_it_is(tmp_path, monkeypatch):
    """Nothing is started, nothing is written."""
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example/api")
    called = []
    with prefect_server.reachable(tmp_path, meanwhile=lambda: called.append(1)) as api:
        assert "https://prefect.example/api" == api
    assert [] == called
    assert [] == list(tmp_path.iterdir())


def test_a_cron_expression_that_is_none_is_the_users_to_mend(tmp_path):
    """Before any server is started."""
    (tmp_path / "params.yaml").write_text("model: digits\n")
    with pytest.raises(ParamsError) as raised:
        serve(tmp_path, "every night")
    assert "found 'every night'" in str(raised.value)
    assert "--cron" in str(raised.value)
    assert not (tmp_path / ".graftline").exists()


def test_the_repository_is_a_workspace_like_any_other():
    """Its prefect.yaml is the template that ``graftline init`` copies."""
    assert TEMPLATE.read_text() == (REPOSITORY / "prefect.yaml").read_text()


def test_a_deployment_runs_one_at_a_time_on_a_schedule():
    """The flow comes from the installed package, so that a workspace need hold no code."""
    (deployment,) = YAML(typ="safe").load(TEMPLATE)["deployments"]
    assert {"limit": 1, "collision_strategy": "ENQUEUE"} == deployment["concurrency_limit"]
    assert 1 == len(deployment["schedules"])
    assert "flows.retrain.retrain" == deployment["entrypoint"]
    from flows.retrain import retrain

    assert set(deployment["parameters"]) == set(retrain.parameters.properties)
