"""Plug-ins are files: the name in params.yaml is the module's name, so adding one touches one file."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from types import ModuleType


class UnknownNameError(ValueError):
    """No such plug-in; ``name`` was asked for, ``known`` are there."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        self.name, self.known = name, known
        nearest = difflib.get_close_matches(name, known, n=1)
        self.advice = f"Did you mean '{nearest[0]}'?" if nearest else "Choose one of the names above."
        super().__init__(f"unknown name '{name}'; there are: {', '.join(known)}. {self.advice}")


@cache
def names(package: str) -> tuple[str, ...]:
    """The plug-ins in ``package``, sorted: its public modules."""
    paths = importlib.import_module(package).__path__
    return tuple(sorted(module.name for module in pkgutil.iter_modules(paths) if not module.name.startswith("_")))


def load(package: str, name: str) -> ModuleType:
    """The module ``package.name``.

    Raises:
        UnknownNameError: no such plug-in; the message lists what exists and the nearest name.
    """
    known = names(package)
    if name not in known:
        raise UnknownNameError(name, known)
    return importlib.import_module(f"{package}.{name}")
