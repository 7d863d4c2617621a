"""Features of images through a frozen backbone, computed only where the cache has none."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pipeline.core import digests
from pipeline.core.batches import batched
from pipeline.core.context import Context
from pipeline.core.device import memory_format
from pipeline.core.progress import Meter
from pipeline.data.images import ImageStore
from pipeline.data.loading import as_tensor
from pipeline.data.manifest import Manifest
from pipeline.data.transforms import normalise, prepared_square
from pipeline.features.cache import FeatureCache
from pipeline.features.table import FeatureTable, TableFacts
from pipeline.models.checkpoints import BackboneWeights

FLUSH_EVERY = 1024
"""Images per cache segment, about: what a kill costs at most."""


class Extraction(NamedTuple):
    """One table per manifest, and how many features were new."""

    tables: list[FeatureTable]
    computed: int
    cached: int


def extract(
    weights: BackboneWeights,
    manifests: list[Manifest],
    context: Context,
    device: torch.device,
    *,
    batch_size: int,
    dtype: str,
) -> Extraction:
    """Features of every image of ``manifests``, ``dtype`` [n, feature_dim] each.

    Batches are padded to ``batch_size``: a feature then does not depend, in its last bits, on how many other images
    happened to be new.
    """
    cache = FeatureCache(_folder(weights, context, device, batch_size, dtype))
    missing = _missing(manifests, cache)
    if len(missing):
        _compute(weights, missing, cache, context, device, batch_size=batch_size, dtype=dtype)
    images = len({image_id for manifest in manifests for image_id in manifest.frame["id"]})
    tables = [_table(weights, manifest, cache, dtype) for manifest in manifests]
    return Extraction(tables, computed=len(missing), cached=images - len(missing))


def _folder(
    weights: BackboneWeights, context: Context, device: torch.device, batch_size: int, dtype: str
) -> Path | None:
    """Batch size, kind of device, threads and torch version are in the name because they round differently."""
    if context.cache is None:
        return None
    content = [weights.digest, weights.preprocessing.digest, dtype]
    rounding = [batch_size, device.type, torch.get_num_threads(), torch.__version__]
    return context.cache / "features" / digests.of_json([content, rounding])


def _missing(manifests: list[Manifest], cache: FeatureCache) -> Manifest:
    """Images that the cache lacks, each once."""
    rows = pd.concat([manifest.frame for manifest in manifests], ignore_index=True).drop_duplicates("id")
    return Manifest(rows[[image_id not in cache for image_id in rows["id"]]].reset_index(drop=True))


@torch.inference_mode()
def _compute(
    weights: BackboneWeights,
    manifest: Manifest,
    cache: FeatureCache,
    context: Context,
    device: torch.device,
    *,
    batch_size: int,
    dtype: str,
) -> None:
    network = weights.build().to(device).to(memory_format=memory_format(device))
    store = ImageStore(context.workspace, context.workers)
    squares = store.each(manifest, lambda image: prepared_square(as_tensor(image)[None], weights.preprocessing))
    batches = zip(batched(manifest.frame["id"].tolist(), batch_size), batched(squares, batch_size), strict=True)
    meter = Meter(what="features", unit="images", total=len(manifest))
    pending = _Pending(cache)
    for ids, images in batches:
        prepared = normalise(torch.cat(images), weights.preprocessing)
        pending.add(ids, forward(network, prepared, batch_size, device).numpy().astype(dtype))
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


def forward(network: nn.Module, images: Tensor, batch_size: int, device: torch.device) -> Tensor:
    """Features [B, feature_dim] on the CPU, computed in a batch of exactly ``batch_size``."""
    padding = images.new_zeros((batch_size - len(images), *images.shape[1:]))
    batch = torch.cat([images, padding]).to(device, memory_format=memory_format(device))
    return network(batch)[: len(images)].float().cpu()


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
