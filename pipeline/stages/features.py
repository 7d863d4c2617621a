"""features: what the frozen backbone makes of every image, computed once per image and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.core.context import Context, Result
from pipeline.core.device import Threads, computing, threads_for
from pipeline.core.params import Params as Base

if TYPE_CHECKING:
    from pipeline.data.manifest import Manifest
    from pipeline.models.checkpoints import BackboneWeights


class Params(Base):
    """Features of all images of both domains."""

    batch_size: int = Field(64, gt=0)
    """Images per forward pass."""
    dtype: Literal["float32", "float16"] = "float32"
    """How features are kept; float16 halves the disk and costs the probe next to nothing."""
    threads: Threads = "auto"
    """CPU threads of torch; equal digests need the same count on the same kind of machine, as in ``train``."""


def run(
    params: Params, context: Context, *, backbone: BackboneWeights, source_manifest: Manifest, target_manifest: Manifest
) -> Result:
    """Extract; images whose features are in the cache are not even decoded."""
    from pipeline.features.extraction import extract

    threads = threads_for(params.threads, backbone.preprocessing.size_px)
    with computing(context.device, context.seed, threads) as device:
        found = extract(
            backbone,
            [source_manifest, target_manifest],
            context,
            device,
            batch_size=params.batch_size,
            dtype=params.dtype,
        )
    source, target = found.tables
    line = (
        f"{found.computed + found.cached:,} images × {backbone.feature_dim} features · "
        f"{found.computed:,} computed, {found.cached:,} cached"
    )
    return Result(line, {"source_features": source, "target_features": target})
