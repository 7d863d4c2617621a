"""features: what the frozen backbone makes of every image, computed once per image and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.core.context import Context, Result
from pipeline.core.device import computing, threads_for
from pipeline.core.errors import DataError
from pipeline.features.options import ExtractionOptions

if TYPE_CHECKING:
    from pipeline.data.manifest import Manifest
    from pipeline.features.table import FeatureTable
    from pipeline.models.checkpoints import BackboneWeights


class Params(ExtractionOptions):
    """Features of all images of both domains."""


def run(
    params: Params, context: Context, *, backbone: BackboneWeights, source_manifest: Manifest, target_manifest: Manifest
) -> Result:
    """Extract; images whose features are in the cache are not even decoded."""
    from pipeline.features.cache import forget_unused
    from pipeline.features.extraction import FOLDER, extract

    threads = threads_for(params.threads, backbone.preprocessing.size_px)
    with computing(context.device, context.seed, threads) as device:
        found = extract(backbone, [source_manifest, target_manifest], context, device, params)
    if context.cache is not None:
        forget_unused(context.cache / FOLDER)  # here: a choice among backbones has asked for its candidates' by now
    for table, manifest in zip(found.tables, (source_manifest, target_manifest), strict=True):
        _check_finite(table, manifest, params.dtype)
    source, target = found.tables
    line = (
        f"{found.computed + found.cached:,} images × {backbone.feature_dim} features · "
        f"{found.computed:,} computed, {found.cached:,} cached"
        + (f" · {found.engine.sentence}" if found.engine.sentence and found.computed else "")
    )
    return Result(line, {"source_features": source, "target_features": target})


def _check_finite(table: FeatureTable, manifest: Manifest, dtype: str) -> None:
    """One image without a number for a feature would spoil every classifier that is fitted to it."""
    rows = table.not_finite
    if len(rows):
        float16 = " Half precision ends at 65,504: set features.dtype to float32." if dtype == "float16" else ""
        raise DataError(
            expected="features that are finite numbers",
            found=f"NaN or infinity for {len(rows):,} of {len(table):,} images, the first "
            f"{manifest.frame['name'].iloc[rows[0]]}",
            where="backbone.weights and features.dtype in params.yaml",
            remedy=f"Choose other weights: these overflow on such images.{float16}",
        )
