"""Features of images through a frozen backbone, computed only where the cache has none."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.core import digests
from pipeline.core.batches import batched
from pipeline.core.context import Context
from pipeline.core.progress import Meter
from pipeline.data.images import ImageStore
from pipeline.data.loading import as_tensor
from pipeline.data.manifest import Manifest
from pipeline.data.transforms import normalise, prepared_square
from pipeline.features.cache import FeatureCache
from pipeline.features.engines import Chosen, Engine, Name, choose
from pipeline.features.options import ExtractionOptions
from pipeline.features.table import FeatureTable, TableFacts
from pipeline.models.checkpoints import BackboneWeights

FLUSH_EVERY = 1024
"""Images per cache segment, about: what a kill costs at most."""


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
    def cache_of(engine: Name) -> FeatureCache:
        return FeatureCache(_folder(weights, context, device, options, engine))

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
        _compute(weights, missing, cache, context, engine.make(), options)
    tables = [_table(weights, manifest, cache, options.dtype) for manifest in manifests]
    return Extraction(tables, computed=len(missing), cached=len(wanted) - len(missing), engine=engine)


def _folder(
    weights: BackboneWeights, context: Context, device: torch.device, options: ExtractionOptions, engine: Name
) -> Path | None:
    """Batch size, kind of device, threads, engine and its version are in the name because they round differently."""
    if context.cache is None:
        return None
    content = [weights.digest, weights.preprocessing.digest, options.dtype]
    rounding = [options.batch_size, device.type, torch.get_num_threads(), engine, importlib.metadata.version(engine)]
    return context.cache / "features" / digests.of_json([content, rounding])


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
    engine: Engine,
    options: ExtractionOptions,
) -> None:
    store = ImageStore(context.workspace, context.workers)
    squares = store.each(manifest, lambda image: prepared_square(as_tensor(image)[None], weights.preprocessing))
    size = options.batch_size
    batches = zip(batched(manifest.frame["id"].tolist(), size), batched(squares, size), strict=True)
    meter = Meter(what="features", unit="images", total=len(manifest))
    pending = _Pending(cache)
    for ids, images in batches:
        prepared = normalise(torch.cat(images), weights.preprocessing)
        pending.add(ids, forward(engine, prepared, size).astype(options.dtype))
        meter.advance(len(ids))
    pending.flush()
    meter.close()


class _Pending:
    """Features on their way into the cache."""

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache
        self._ids: list[str] = []
        self._blocks: list[np.ndarray] = []

    def add(self, ids: list[str], features: np.ndarray) -> None:
        self._ids += ids
        self._blocks.append(features)
        if len(self._ids) >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        if self._ids:
            self._cache.add(self._ids, np.concatenate(self._blocks))
        self._ids, self._blocks = [], []


def forward(engine: Engine, images: Tensor, batch_size: int) -> np.ndarray:
    """Features [B, feature_dim], computed in a batch of exactly ``batch_size``."""
    padding = images.new_zeros((batch_size - len(images), *images.shape[1:]))
    return engine(torch.cat([images, padding]))[: len(images)]


def _table(weights: BackboneWeights, manifest: Manifest, cache: FeatureCache, dtype: str) -> FeatureTable:
    ids = manifest.frame["id"].tolist()
    facts = TableFacts(
        backbone=weights.name,
        backbone_digest=weights.digest,
        preprocessing_digest=weights.preprocessing.digest,
        dtype=dtype,
        count=len(ids),
        feature_dim=weights.feature_dim,
    )
    return FeatureTable(facts, ids, cache.gather(ids, weights.feature_dim, dtype))
