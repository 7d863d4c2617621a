"""Features of images through a frozen backbone, computed only where the cache has none.

On a CPU batches are computed side by side, each on one thread, so that the bits do not depend on how many threads there
are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from pipeline.core import digests
from pipeline.core.ahead import mapped_ahead
from pipeline.core.batches import batched
from pipeline.core.context import Context
from pipeline.core.device import batches_at_once
from pipeline.core.errors import ServiceError
from pipeline.core.progress import Meter
from pipeline.data.images import ImageStore
from pipeline.data.loading import as_tensor
from pipeline.data.manifest import Manifest
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.transforms import preprocess
from pipeline.features.cache import FeatureCache, Gathered
from pipeline.features.engines import Chosen, Engine, Name, choose, recipe
from pipeline.features.options import ExtractionOptions
from pipeline.features.table import FeatureTable, TableFacts
from pipeline.models.checkpoints import BackboneWeights
from pipeline.scale import engine as scaling
from pipeline.scale.options import Scale

FOLDER = "features"
"""In the workspace's cache; in it a folder per recipe."""

FLUSH_EVERY = 1024
"""Images per cache segment, about: with the batches at work, what a kill costs at most."""

BATCHES_PER_THREAD = 2
"""One at work, and one that is ready when it is done."""

PARTS_PER_WORKER = 4
"""Where several processes work: enough that none waits long for the last."""


class Extraction(NamedTuple):
    """One table per manifest, how many features were new, and on what they were computed."""

    tables: list[FeatureTable]
    computed: int
    cached: int
    engine: Chosen


def extract(
    weights: BackboneWeights,
    manifests: list[Manifest],
    context: Context,
    device: torch.device,
    options: ExtractionOptions,
) -> Extraction:
    """Features of every image of ``manifests``, ``options.dtype`` [n, feature_dim] each.

    Batches are padded to ``options.batch_size``: a feature then does not depend, in its last bits, on how many other
    images happened to be new.
    """
    wanted = _each_once(manifests)

    @functools.cache
    def how(engine: Name) -> str:  # once: the code may be exchanged while this process computes for hours
        return recipe(engine, device.type)

    @functools.cache
    def cache_of(engine: Name) -> FeatureCache:
        return FeatureCache(_folder(weights, context, options, how(engine)))

    engine = choose(
        options.engine,
        weights,
        device,
        context.cache / "engines" if context.cache is not None else None,
        lambda name: len(_missing(wanted, cache_of(name))),
        images=len(wanted),
    )
    cache = cache_of(engine.name)
    missing = _missing(wanted, cache)
    if len(missing):
        _compute(weights, missing, cache, context, engine, device, options, how(engine.name))
    tables = [_table(weights, manifest, cache, options.dtype, how(engine.name)) for manifest in manifests]
    return Extraction(tables, computed=len(missing), cached=len(wanted) - len(missing), engine=engine)


def _folder(weights: BackboneWeights, context: Context, options: ExtractionOptions, how: str) -> Path | None:
    """What is computed otherwise, or rounds differently, lies elsewhere."""
    if context.cache is None:
        return None
    content = [weights.digest, weights.preprocessing.digest, options.dtype, options.batch_size, how]
    return context.cache / FOLDER / digests.of_json(content)


def _each_once(manifests: list[Manifest]) -> Manifest:
    rows = pd.concat([manifest.frame for manifest in manifests], ignore_index=True).drop_duplicates("id")
    return Manifest(rows.reset_index(drop=True))


def _missing(manifest: Manifest, cache: FeatureCache) -> Manifest:
    """Images that the cache lacks."""
    rows = manifest.frame
    return Manifest(rows[[image_id not in cache for image_id in rows["id"]]].reset_index(drop=True))


def _compute(
    weights: BackboneWeights,
    manifest: Manifest,
    cache: FeatureCache,
    context: Context,
    engine: Chosen,
    device: torch.device,
    options: ExtractionOptions,
    how: str,
) -> None:
    """Here, or in other processes that write segments for the cache to take in; the features are the same bits."""
    store = ImageStore(context.workspace, context.workers)
    make = partial(
        _Extractor,
        engine.make,
        weights.preprocessing,
        store,
        options.batch_size,
        options.dtype,
        cache.keep,
        device if engine.name == "torch" else torch.device("cpu"),
        partial(_check_recipe, how, engine.name),
    )
    scale = context.scale if context.scale and cache.is_on_disk else Scale()
    meter = Meter(what="features", unit="images", total=len(manifest))
    try:
        for told in scaling.of(scale).mapped(
            make,
            manifest.frame[["id", "path", "offset", "length"]],
            part_rows=_part_rows(len(manifest), scale.workers, options.batch_size),
            scale=scale,
            threads=torch.get_num_threads(),
            gpu=device.type == "cuda",
        ):
            for images, segment in zip(told["images"], told["segment"], strict=True):
                meter.advance(images)
                if segment:
                    cache.take_in(Path(segment))
    finally:
        meter.close()


def _part_rows(rows: int, workers: int, batch_size: int) -> int:
    """Whole batches, up to a segment, and some parts for each worker where there are rows enough."""
    fair = rows / (workers * PARTS_PER_WORKER)
    return batch_size * max(1, round(min(fair, FLUSH_EVERY) / batch_size))


class _Extractor:
    """Computes features of rows of a manifest and keeps them; made once in each process that does so.

    Tells after each batch how many ``images`` there were, and which ``segment`` was written ("" for none).
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        preprocessing: Preprocessing,
        store: ImageStore,
        batch_size: int,
        dtype: str,
        keep: Callable[[list[str], np.ndarray], Path | None],
        device: torch.device,
        check: Callable[[torch.device], None],
    ) -> None:
        check(device)
        self._engine, self._preprocessing, self._store, self._keep = make_engine(), preprocessing, store, keep
        self._batch_size, self._dtype = batch_size, dtype
        self._at_once = batches_at_once(device, batch_size, preprocessing.size_px)

    def __call__(self, rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
        size, pending = self._batch_size, _Pending(self._keep)
        images = batched(self._store.each(Manifest(rows), self._prepared), size)
        found = mapped_ahead(self._features, images, self._at_once, per_thread=BATCHES_PER_THREAD)
        for ids, features in zip(batched(rows["id"].tolist(), size), found, strict=True):
            yield _told(len(ids), pending.add(ids, features))
        yield _told(0, pending.flush())

    def _features(self, images: list[np.ndarray]) -> np.ndarray:
        features = forward(self._engine, images, self._batch_size)
        with np.errstate(over="ignore"):  # the stage tells what half precision cannot hold, with the image's name
            return features.astype(self._dtype)

    def _prepared(self, image: np.ndarray) -> np.ndarray:
        """float32 [3, S, S], normalised."""
        return preprocess(as_tensor(image)[None], self._preprocessing)[0].numpy()


def _check_recipe(expected: str, engine: Name, device: torch.device) -> None:
    """Raises: ServiceError: this process, of a cluster perhaps, would compute other features under the same name."""
    if recipe(engine, device.type) != expected:
        raise ServiceError(
            "A process that computes features has other code or libraries than the one that asked it, or Pillow is set "
            "up otherwise there.\n  Install the same Python, Graftline, Pillow, torch and torchvision on every machine."
        )


def _told(images: int, segment: Path | None) -> pd.DataFrame:
    return pd.DataFrame({"images": [images], "segment": [str(segment or "")]})


class _Pending:
    """Features on their way into the cache; where a segment was written for it, that is returned."""

    def __init__(self, keep: Callable[[list[str], np.ndarray], Path | None]) -> None:
        self._keep = keep
        self._ids: list[str] = []
        self._blocks: list[np.ndarray] = []

    def add(self, ids: list[str], features: np.ndarray) -> Path | None:
        self._ids += ids
        self._blocks.append(features)
        return self.flush() if len(self._ids) >= FLUSH_EVERY else None

    def flush(self) -> Path | None:
        written = self._keep(self._ids, np.concatenate(self._blocks)) if self._ids else None
        self._ids, self._blocks = [], []
        return written


def forward(engine: Engine, images: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
    """Features [n, feature_dim] of normalised ``images``, float32 [3, S, S], in a batch of exactly ``batch_size``."""
    batch = np.zeros((batch_size, *images[0].shape), dtype=np.float32)
    for place, image in zip(batch, images, strict=False):
        place[...] = image
    return engine(torch.from_numpy(batch))[: len(images)]


def _table(weights: BackboneWeights, manifest: Manifest, cache: FeatureCache, dtype: str, how: str) -> FeatureTable:
    ids = manifest.frame["id"].tolist()
    facts = TableFacts(
        backbone=weights.name,
        backbone_digest=weights.digest,
        preprocessing_digest=weights.preprocessing.digest,
        dtype=dtype,
        count=len(ids),
        feature_dim=weights.feature_dim,
        recipe=how,
    )
    return FeatureTable(facts, ids, Gathered(cache, ids, weights.feature_dim, dtype))
