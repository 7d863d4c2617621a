"""The registered champion behind MLflow's own scoring server."""

import json
import os
import socket
import subprocess
import sys
import time

import httpx
import pytest
from integration_tools import environment

pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_mlflow_serves_the_champion(finished):
    """`mlflow models serve -m models:/NAME@champion` answers with probabilities that sum to one."""
    port = free_port()
    arguments = ["-m", "models:/digits@champion", "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    uri = f"sqlite:///{finished / '.graftline/mlflow.db'}"
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "models", "serve", *arguments],
        env={**environment(), "MLFLOW_TRACKING_URI": uri},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_it_answers(f"http://127.0.0.1:{port}/ping", server)
        image = [[[[0, 10, 20], [30, 40, 50]], [[60, 70, 80], [90, 100, 110]]]]  # uint8 [1, 2, 2, 3]
        answer = httpx.post(f"http://127.0.0.1:{port}/invocations", json={"inputs": {"images": image}}, timeout=60)
        assert answer.status_code == 200, answer.text
        (probabilities,) = json.loads(answer.text)["predictions"]["probabilities"]
        assert len(probabilities) == 10
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def wait_until_it_answers(url, server):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    pytest.fail("the server never answered")
