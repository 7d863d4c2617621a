"""Ray for real, on this machine: what it computes is what one process computes, also when a worker is killed."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scale_tasks import DyingEngine, DyingLoss, RefusingLoss, toy_work

from pipeline.core import digests
from pipeline.core.device import one_thread
from pipeline.core.errors import DataError, ParamsError, ServiceError
from pipeline.features import extraction
from pipeline.features.engines import Chosen
from pipeline.features.extraction import Extraction, extract
from pipeline.features.options import ExtractionOptions
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import BackboneWeights, random_weights
from pipeline.scale.options import Scale
from pipeline.training.engine import fit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: graftline[ray]"),
]

CPU = torch.device("cpu")
TESTS = Path(__file__).resolve().parents[1]
RAY = Scale(engine="ray", workers=2)


@pytest.fixture(autouse=True, scope="module")
def _on_one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One for the tests of what is done on it, whose processes can import what dies; the last tests start their own."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("GRAFTLINE_CHECKPOINT_EVERY_S", "0")
        environment.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
        yield from _started()


def _started() -> Iterator[None]:
    import ray

    ray.init(
        address="local", num_cpus=2, object_store_memory=2**28, include_dashboard=False, log_to_driver=False,
        logging_level="ERROR",
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def weights() -> BackboneWeights:
    return random_weights("small_cnn", 0, backbone("small_cnn").preprocessing)


def extracted(domains: Any, weights: BackboneWeights, cache: Path, scale: Scale | None = None) -> Extraction:
    context = domains.context(cache=cache, scale=scale)
    options = ExtractionOptions(batch_size=8)
    return extract(weights, [domains.source, domains.target], context, CPU, options)


def digests_of(found: Extraction, folder: Path) -> list[str]:
    """Of the tables as they are saved."""
    for number, table in enumerate(found.tables):
        table.save(folder / str(number))
    return [digests.of_path(folder / str(number)) for number in range(len(found.tables))]


@pytest.mark.usefixtures("cluster")
def test_two_workers_give_the_digests_of_none(toy_domains: Any, weights: BackboneWeights, tmp_path: Path) -> None:
    """Parts of 120 images go to two actors; afterwards neither engine has anything left to compute."""
    local = extracted(toy_domains, weights, tmp_path / "local")
    shared = extracted(toy_domains, weights, tmp_path / "shared", RAY)
    assert (120, 120) == (local.computed, shared.computed)
    assert digests_of(local, tmp_path / "a") == digests_of(shared, tmp_path / "b")
    assert 0 == extracted(toy_domains, weights, tmp_path / "shared").computed
    assert len(list((tmp_path / "shared").rglob("segment-*"))) > 2


@pytest.mark.usefixtures("cluster")
def test_sigkill_of_a_worker_changes_nothing(
    toy_domains: Any, weights: BackboneWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies in the middle of a part; that one is given out again, and the tables have the digests of a local run."""
    marker = tmp_path / "died"
    local = extracted(toy_domains, weights, tmp_path / "local")
    dying = Chosen("torch", partial(DyingEngine, weights, marker, batches=1))
    monkeypatch.setattr(extraction, "choose", lambda *_, **__: dying)
    disturbed = extracted(toy_domains, weights, tmp_path / "shared", RAY)
    assert marker.exists()
    assert digests_of(local, tmp_path / "a") == digests_of(disturbed, tmp_path / "b")


@pytest.mark.usefixtures("cluster")
def test_an_image_that_changed_is_told_in_our_words(toy_domains: Any, weights: BackboneWeights, tmp_path: Path) -> None:
    """The error of a worker is that of a local run, and nothing false is kept."""
    first, second = (toy_domains.workspace / path for path in toy_domains.source.frame["path"][:2])
    first.write_bytes(second.read_bytes())
    with pytest.raises(DataError, match="it has changed since ingest"):
        extracted(toy_domains, weights, tmp_path / "shared", RAY)


@pytest.mark.usefixtures("cluster")
def test_ray_train_ends_where_one_process_does_also_after_a_kill(toy_domains: Any, tmp_path: Path) -> None:
    """Within 1e-5 of one process; to the last bit where one of the two was killed and both began anew."""
    networks, marker = {}, tmp_path / "died"
    for name, scale, objective in (
        ("one", None, None),
        ("two", RAY, None),
        ("killed", RAY, DyingLoss(marker, progress=0.5)),
    ):
        context = replace(toy_domains.context(scratch=tmp_path / name), scale=scale)
        work = toy_work(toy_domains, context, epochs=4, objective=objective)
        outcome = fit(*work[:6], objective=work.objective)
        assert (2 if scale else 1) == outcome.processes
        networks[name] = work.network.state_dict()
    assert marker.exists()
    for name, value in networks["one"].items():
        assert torch.allclose(value, networks["two"][name], rtol=1e-5, atol=1e-5), name
        assert torch.equal(networks["two"][name], networks["killed"][name]), name


@pytest.mark.usefixtures("cluster")
def test_workers_that_die_every_time_are_given_up(
    toy_domains: Any, weights: BackboneWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's last words are in one error of ours."""
    dying = Chosen("torch", partial(DyingEngine, weights, None, batches=0))
    monkeypatch.setattr(extraction, "choose", lambda *_, **__: dying)
    with pytest.raises(ServiceError, match="The work on Ray failed"):
        extracted(toy_domains, weights, tmp_path / "shared", RAY)


@pytest.mark.usefixtures("cluster")
def test_training_processes_that_die_every_time_are_given_up(
    toy_domains: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Train's failure is another class than Ray's own errors; the message is the same error of ours."""
    monkeypatch.setattr("pipeline.scale.engines.ray.RESTARTS", 1)
    context = replace(toy_domains.context(scratch=tmp_path), scale=RAY)
    dying = DyingLoss(None, progress=0.5)
    with pytest.raises(ServiceError, match="The work on Ray failed"):
        fit(*toy_work(toy_domains, context)[:6], objective=dying)


@pytest.mark.usefixtures("cluster")
def test_an_error_of_one_training_process_is_told_in_its_own_words(toy_domains: Any, tmp_path: Path) -> None:
    """The other waits for gradients that never come; what reaches the user is what the first one found."""
    context = replace(toy_domains.context(scratch=tmp_path), scale=RAY)
    with pytest.raises(DataError, match="Expected a picture; found none"):
        fit(*toy_work(toy_domains, context)[:6], objective=RefusingLoss())


def test_a_cluster_of_our_own_is_stopped(toy_domains: Any, weights: BackboneWeights, tmp_path: Path) -> None:
    """Started for the work, gone after it."""
    import ray

    ray.shutdown()
    local = extracted(toy_domains, weights, tmp_path / "local")
    shared = extracted(toy_domains, weights, tmp_path / "shared", RAY)
    assert np.array_equal(local.tables[1].features, shared.tables[1].features)
    assert not ray.is_initialized()


def test_no_cluster_at_the_address_is_one_message(toy_domains: Any, weights: BackboneWeights, tmp_path: Path) -> None:
    """Where it was sought, and how to start one; Ray itself would try for some ten minutes."""
    with pytest.raises(ParamsError) as error:
        extracted(toy_domains, weights, tmp_path / "c", Scale(engine="ray", workers=2, address="localhost:1"))
    assert "Expected a Ray cluster that answers; found none at 'localhost:1'" in str(error.value)
