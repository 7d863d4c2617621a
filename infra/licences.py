"""The licences of the installed packages, held against the list in pyproject.toml (``tool.graftline.licences``).

An expression such as ``MIT OR GPL-2.0-only`` is allowed if one side is, ``MIT AND …`` if both are. A package that
states its licence in no form that can be read, or none at all, is not allowed until somebody has read its licence file
and written it down under ``stated``, or has accepted it by name with a reason under ``accepted``.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, Self

from license_expression import ExpressionError, get_spdx_licensing
from packaging.utils import canonicalize_name

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

SPDX = {
    "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Zope Public License": "ZPL-2.1",
    "2-clause BSD License": "BSD-2-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD License": "LicenseRef-BSD",
    "BSD": "LicenseRef-BSD",
}
"""Older forms, as classifiers and authors write them. Which of the BSD licences is meant they do not say."""

NOT_A_LICENCE = {"OSI Approved", "DFSG approved"}


class Policy(NamedTuple):
    """What pyproject.toml says."""

    allowed: frozenset[str]
    """SPDX identifiers."""
    stated: dict[str, str]
    """Package → SPDX expression, read in its licence file where its metadata leave it open."""
    accepted: dict[str, str]
    """Package, or a pattern of packages → why it may be installed under its licence."""

    @classmethod
    def load(cls, path: Path = PYPROJECT) -> Self:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["tool"]["graftline"]["licences"]
        return cls(frozenset(table["allowed"]), table.get("stated", {}), table.get("accepted", {}))

    def allows(self, package: str, expression: str) -> bool:
        """Whether the package may be installed under ``expression``."""
        if any(fnmatch.fnmatch(package, pattern) for pattern in self.accepted):
            return True
        try:
            return self._holds(get_spdx_licensing().parse(expression))
        except ExpressionError:
            return False

    def _holds(self, tree: Any) -> bool:
        if tree is None:
            return False
        if (operator := getattr(tree, "operator", "").strip()) in ("AND", "OR"):
            return (all if operator == "AND" else any)(self._holds(part) for part in tree.args)
        return str(tree) in self.allowed


class Licence(NamedTuple):
    """A package and what it is under."""

    package: str
    version: str
    expression: str
    """Empty where nothing is stated."""

    @property
    def line(self) -> str:
        return f"{self.package} {self.version}: {self.expression or 'no licence stated'}"


def installed(policy: Policy) -> list[Licence]:
    """Every distribution in this environment, sorted by name."""
    found = {canonicalize_name(one.name): one for one in metadata.distributions()}
    return [
        Licence(name, one.version, policy.stated.get(name) or stated(one.metadata))
        for name, one in sorted(found.items())
    ]


def stated(facts: Any) -> str:
    """What a package's metadata say, as an SPDX expression where that can be told: PEP 639's field, then the
    classifiers (several of them hold together), then the old free text."""
    if facts.get("License-Expression"):
        return str(facts["License-Expression"])
    classifiers = [
        text.split(" :: ")[-1] for text in facts.get_all("Classifier") or () if text.startswith("License ::")
    ]
    named = [SPDX.get(text, text) for text in classifiers if text not in NOT_A_LICENCE]
    if named:
        return " AND ".join(sorted(named))
    text = (facts.get("License") or "").strip().split("\n")[0]
    return SPDX.get(text, text)


def refused(licences: Iterable[Licence], policy: Policy) -> list[Licence]:
    """Those that the list does not allow."""
    return [licence for licence in licences if not policy.allows(licence.package, licence.expression)]
