"""How features are computed and kept, wherever that is done."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.core.device import Threads
from pipeline.core.params import Params


class ExtractionOptions(Params):
    """What the cache tells features apart by, beside weights and images: equal options find what was computed."""

    batch_size: int = Field(32, gt=0)
    """Images per forward pass."""
    dtype: Literal["float32", "float16"] = "float32"
    """How features are kept; float16 halves the disk and costs the probe next to nothing."""
    threads: Threads = "auto"
    """Batches computed at once on a CPU, each on one thread, and with memory of its own; ``auto``: one per core, or one
    alone for small images. The features do not depend on it."""
    engine: Literal["auto", "torch", "onnxruntime"] = "auto"
    """What runs the backbone. ``auto`` is torch, but on a CPU ONNX Runtime for images beyond 64 px once 3,000 new
    ones are to be computed and it is at least a fifth faster there: measured once and kept in the cache."""
