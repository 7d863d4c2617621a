"""The Python packages that a result was made with: Graftline and what it needs, as installed, with their versions.

Only what ``graftline`` asks for is followed, through every level. What else lies in the environment (tools for
development, somebody's own packages) had no part in the result and would make equal results look different.
"""

from __future__ import annotations

from importlib import metadata
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "graftline"


class Package(NamedTuple):
    """One installed distribution."""

    name: str
    """As the package index spells it: lower case, dashes."""
    version: str
    needs: tuple[str, ...]
    """Names of those that it asks for here, sorted."""


def made_with(root: str = ROOT) -> list[Package]:
    """``root`` and everything it needs on this machine, sorted by name. What is not installed is left out."""
    asked: dict[str, set[str]] = {}
    needs: dict[str, set[str]] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(canonicalize_name(root), frozenset())]
    while waiting:
        name, extras = waiting.pop()
        if name in asked and extras <= asked[name]:
            continue
        asked.setdefault(name, set()).update(extras)
        found = [need for need in _needs(name, asked[name]) if _installed(need[0])]
        needs[name] = {need for need, _ in found}
        waiting += found
    installed = {name: distribution for name in needs if (distribution := _installed(name)) is not None}
    return [Package(name, installed[name].version, tuple(sorted(needs[name]))) for name in sorted(installed)]


def _needs(name: str, extras: set[str]) -> list[tuple[str, frozenset[str]]]:
    """(name, extras) of each requirement that applies to this machine and Python."""
    distribution = _installed(name)
    requirements = [Requirement(text) for text in (distribution and distribution.requires) or ()]
    return [
        (canonicalize_name(requirement.name), frozenset(requirement.extras))
        for requirement in requirements
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in (*sorted(extras), ""))
    ]


def _installed(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
