"""Ray: a cluster that is there, or one of our own on this machine, started for each extraction and each training.

Rows are mapped over by Ray Data in a pool of actors, training processes are Ray Train's. Workspace and cache must lie
where every machine of the cluster sees them under the same path.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.core import errors
from pipeline.core.allocation import freed_memory_kept, share_one_heap
from pipeline.core.errors import GraftlineError, ParamsError, ServiceError
from pipeline.scale.engine import RESTARTS, Part

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.scale.options import Scale

ANSWER_WITHIN_S = 10.0
"""For the cluster's head to accept a connection."""

OBJECT_STORE_BYTES = 512 * 2**20
"""Of a cluster of our own: weights, and tables of file names, pass through it; images and features do not."""


def check(scale: Scale) -> None:
    """Is the optional package there?"""
    if importlib.util.find_spec("ray") is None:
        raise ParamsError(
            expected="the package ray, which scale.engine: ray needs",
            found="none in this environment",
            where="scale.engine in params.yaml",
            remedy="pip install 'graftline[ray]', or set scale.engine to local.",
        )


def mapped(
    make: Callable[[], Part], rows: pd.DataFrame, *, part_rows: int, scale: Scale, threads: int, gpu: bool
) -> Iterator[pd.DataFrame]:
    """One block of Ray Data per part. An actor that dies is started anew, and its part given out again."""
    import pyarrow as pa

    with _cluster(scale, threads, gpu=gpu) as ray:
        table = pa.Table.from_pandas(rows, preserve_index=False)
        blocks = [table.slice(start, part_rows) for start in range(0, len(table), part_rows)]
        done = ray.data.from_arrow(blocks).map_batches(
            _Worker,
            batch_size=None,
            batch_format="pyarrow",
            fn_constructor_args=(make, threads),
            compute=ray.data.ActorPoolStrategy(size=min(scale.workers, len(blocks))),
            num_cpus=threads,
            num_gpus=1 if gpu else None,
            max_restarts=RESTARTS,
            max_task_retries=RESTARTS,
        )
        with _told_as_ours(ray):
            for batch in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for told, failure in zip(batch["told"].to_pylist(), batch["failure"].to_pylist(), strict=True):
                    if failure:
                        raise errors.restored(json.loads(failure))
                    yield _read(told)


class _Worker:
    """In an actor. What a part has to tell crosses as text, and so does an error of ours: Ray would try it again."""

    def __init__(self, make: Callable[[], Part], threads: int) -> None:
        share_one_heap()
        import torch

        torch.set_num_threads(threads)
        self._part = make()

    def __call__(self, table: Any) -> Iterator[Any]:
        import pyarrow as pa

        told, failure = [], ""
        try:
            with freed_memory_kept():
                told = [frame.to_json(orient="split") for frame in self._part(table.to_pandas())]
        except GraftlineError as error:
            told, failure = [""], json.dumps(errors.kept(error))
        yield pa.table({"told": pa.array(told, pa.string()), "failure": pa.array([failure] * len(told), pa.string())})


def _read(told: str) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(**json.loads(told))


def together(work: Callable[[int], None], *, scale: Scale, threads: int, backend: str) -> None:
    """By Ray Train's TorchTrainer, with ``threads`` for each process."""
    gpu = backend == "nccl"
    with _cluster(scale, threads, gpu=gpu) as ray, tempfile.TemporaryDirectory(prefix="graftline-ray-") as storage:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        trainer = TorchTrainer(
            lambda: work(threads),
            scaling_config=ScalingConfig(num_workers=scale.workers, use_gpu=gpu, resources_per_worker={"CPU": threads}),
            torch_config=TorchConfig(backend=backend),
            run_config=RunConfig(storage_path=storage, failure_config=FailureConfig(max_failures=RESTARTS)),
        )
        with _told_as_ours(ray):
            trainer.fit()


@contextmanager
def _cluster(scale: Scale, threads: int, *, gpu: bool) -> Iterator[Any]:
    """Ray, connected; what was started here is stopped here. A connection that is there already is used and kept.

    Raises:
        ParamsError: no cluster answers at ``scale.address``, or it has not the processors or GPUs for the workers.
    """
    check(scale)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before the import: Ray reports by default
    import ray
    import ray.data

    if ray.is_initialized():
        yield ray
        return
    try:
        _connect(ray, scale, threads)
        _check_room(ray, scale, threads, gpu)
        _quieten(ray)
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, scale: Scale, threads: int) -> None:
    here: Any = {
        "num_cpus": scale.workers * threads,
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
    }
    is_own = scale.address == "local"
    try:
        if not is_own and scale.address != "auto":
            _check_answers(scale.address)
        ray.init(address=scale.address, log_to_driver=False, logging_level="ERROR", **(here if is_own else {}))
    except Exception as error:  # Ray raises bare Exceptions too
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        if is_own:
            raise ServiceError(f"Ray could not be started on this machine: {said}") from error
        raise ParamsError(
            expected="a Ray cluster that answers",
            found=f"none at '{scale.address}' ({said})",
            where="scale.address in params.yaml",
            remedy="Start one (ray start --head), mend the address, or set it to local.",
        ) from error


def _check_answers(address: str) -> None:
    """Does anybody listen there? Ray itself tries for some ten minutes.

    Raises:
        OSError: nobody does.
    """
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=ANSWER_WITHIN_S):
        pass


def _check_room(ray: Any, scale: Scale, threads: int, gpu: bool) -> None:
    """Ray itself would wait for more machines without end."""
    resources = ray.cluster_resources()
    there, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if gpu and gpus < scale.workers:
        raise ParamsError(
            expected=f"a Ray cluster with {scale.workers} GPUs, one for each worker",
            found=f"{gpus} GPUs",
            where="scale.workers in params.yaml",
            remedy=f"Set it to {gpus}, or add machines." if gpus else "Set runtime.device to cpu, or add machines.",
        )
    if there < scale.workers * threads:
        raise ParamsError(
            expected=f"a Ray cluster with {scale.workers * threads} CPUs: {scale.workers} workers of {threads} threads",
            found=f"{there} CPUs",
            where="scale.workers in params.yaml",
            remedy=f"Set it to {max(1, there // threads)}, set the stage's threads lower, or add machines.",
        )


def _quieten(ray: Any) -> None:
    """Our own meter shows what is done."""
    import logging

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


@contextmanager
def _told_as_ours(ray: Any) -> Iterator[None]:
    """What Ray says when workers died too often, or a worker's code broke, as one error."""
    from ray.train import TrainingFailedError  # of whichever of Ray Train's two versions is in use

    try:
        yield
    except (ray.exceptions.RayError, TrainingFailedError) as error:
        raise ServiceError(f"The work on Ray failed: {str(error).strip() or type(error).__name__}") from error
