"""features: what the frozen backbone makes of every image, computed once per image and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.core.context import Context, Result
from pipeline.core.device import computing, threads_for
from pipeline.features.options import ExtractionOptions

if TYPE_CHECKING:
    from pipeline.data.manifest import Manifest
    from pipeline.models.checkpoints import BackboneWeights


class Params(ExtractionOptions):
    """Features of all images of both domains."""


def run(
    params: Params, context: Context, *, backbone: BackboneWeights, source_manifest: Manifest, target_manifest: Manifest
) -> Result:
    """Extract; images whose features are in the cache are not even decoded."""
    from pipeline.features.extraction import extract

    threads = threads_for(params.threads, backbone.preprocessing.size_px)
    with computing(context.device, context.seed, threads) as device:
        found = extract(backbone, [source_manifest, target_manifest], context, device, params)
    source, target = found.tables
    line = (
        f"{found.computed + found.cached:,} images × {backbone.feature_dim} features · "
        f"{found.computed:,} computed, {found.cached:,} cached"
        + (f" · {found.engine.sentence}" if found.engine.sentence and found.computed else "")
    )
    return Result(line, {"source_features": source, "target_features": target})
