"""What a kept figure of an image was computed by: the same bytes give another figure where that has changed."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterable

from pipeline.core import digests
from pipeline.data.images import decoders


def recipe(modules: Iterable[str], packages: Iterable[str], *more: object) -> str:
    """Digest of the code of ``modules``, the versions of ``packages``, what decodes images, and ``more`` that JSON can
    hold."""
    code = [digests.of_code(importlib.import_module(name)) for name in modules]
    return digests.of_json([code, [importlib.metadata.version(name) for name in packages], decoders(), *more])
