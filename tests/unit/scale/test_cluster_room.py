"""What a cluster has to have before work is given to it; asked without Ray, which need not be installed."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from pipeline.core.errors import ParamsError
from pipeline.scale.engines import ray as engine
from pipeline.scale.options import Scale


class Cluster:
    """What Ray says of itself."""

    def __init__(self, **resources: float) -> None:
        self._resources = resources

    def cluster_resources(self) -> dict[str, float]:
        return self._resources


@pytest.mark.parametrize(
    ("resources", "gpu", "says"),
    [
        ({"CPU": 7.0}, False, "Expected a Ray cluster with 8 CPUs: 4 workers of 2 threads; found 7 CPUs."),
        ({"CPU": 8.0}, True, "Expected a Ray cluster with 4 GPUs, one for each worker; found 0 GPUs."),
        ({"CPU": 8.0, "GPU": 3.0}, True, "remedy: Set it to 3, or add machines."),
    ],
)
def test_too_little_room_is_one_message(resources: dict[str, Any], gpu: bool, says: str) -> None:
    """Ray itself would wait for more machines without end."""
    with pytest.raises(ParamsError) as error:
        engine._check_room(Cluster(**resources), Scale(workers=4), threads=2, gpu=gpu)
    assert says in str(error.value)


def test_enough_room_is_no_message() -> None:
    """GPUs are asked for where the work is done on them, only there."""
    engine._check_room(Cluster(CPU=8.0), Scale(workers=4), threads=2, gpu=False)
    engine._check_room(Cluster(CPU=8.0, GPU=4.0), Scale(workers=4), threads=2, gpu=True)


def test_an_address_where_nobody_listens_is_known_at_once() -> None:
    """By a connection, which one that listens accepts."""
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        engine._check_answers(address)
    with pytest.raises(ConnectionRefusedError):
        engine._check_answers(address)
