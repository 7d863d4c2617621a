"""Imports that leave out what Graftline never calls and would wait for."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo.utils"


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """Import torchvision in this block, and torch's compiler stays out: 2.5 s and 145 MB less.

    torchvision names one function of the compiler in a module for detection (``torchvision.ops.roi_align``). A stand-in
    provides that name while torchvision is imported. Whoever asks the stand-in for more gets the compiler itself.
    """
    if COMPILER in sys.modules or "torchvision" in sys.modules:
        yield
        return
    sys.modules[COMPILER] = _StandIn(COMPILER)
    try:
        yield
    finally:
        _withdraw()


class _StandIn(ModuleType):
    @staticmethod
    def is_compile_supported(device_type: str) -> bool:
        """What torchvision asks, should it ever come to detect something."""
        supported: bool = importlib.import_module(COMPILER).is_compile_supported(device_type)
        return supported

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for these
            raise AttributeError(name)
        _withdraw()
        return getattr(importlib.import_module(COMPILER), name)


def _withdraw() -> None:
    if isinstance(sys.modules.get(COMPILER), _StandIn):
        del sys.modules[COMPILER]
