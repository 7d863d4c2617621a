"""``make audit``: known vulnerabilities in the lock, doubtful code, licences of what is installed.

    python -m infra.audit                     # all three; the exit code is 1 if any has found something
    python -m infra.audit licences --list     # every package with its licence

A check that could not be made has failed: a database that does not answer is no clean bill of health.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from infra import licences

ROOT = Path(__file__).parents[1]
LOCK = "requirements.lock"
CODE = ("pipeline", "flows", "infra")


class Report(NamedTuple):
    """What a check has found."""

    passed: bool
    summary: str
    findings: list[str] = []
    """One line each."""


def vulnerabilities() -> Report:
    """pip-audit on the lock as it stands: every pin has its hash, so nothing is resolved and nothing installed."""
    arguments = ["--requirement", LOCK, "--require-hashes", "--disable-pip", "--format", "json"]
    done = _run("pip_audit", *arguments, "--progress-spinner", "off", "--desc", "off")
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return Report(False, f"not checked: PyPI's database did not answer ({reason[:300]})", [_OFFLINE])
    return judged(packages)


_OFFLINE = "make audit needs the network for this; the other two checks do not: python -m infra.audit code licences"


def judged(packages: list[dict[str, Any]]) -> Report:
    """What pip-audit tells of each package. One that the database does not know is not checked: pip-audit alone would
    call the whole free of known vulnerabilities, also where a mirror knows of none at all."""
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    flaws = [(package, flaw) for package in packages for flaw in package.get("vulns", ())]
    found = [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'none'}"
        for package, flaw in flaws
    ]
    if found:
        return Report(False, f"{len(found)} known in {len(packages)} locked packages", found)
    if unknown or not packages:
        some = ", ".join(unknown[:5]) + (" …" if len(unknown) > 5 else "")
        return Report(
            False, f"{len(unknown)} of {len(packages)} locked packages are unknown to the database ({some})", [_OFFLINE]
        )
    return Report(True, f"none known in {len(packages)} locked packages")


def code() -> Report:
    """Bandit, as pyproject.toml sets it."""
    done = _run("bandit", "--quiet", "--configfile", "pyproject.toml", "--format", "json", "--recursive", *CODE)
    try:
        results = json.loads(done.stdout)
    except ValueError:
        return Report(False, "not checked: bandit ended badly", done.stderr.strip().splitlines()[-3:])
    found = [
        f"{one['filename']}:{one['line_number']} {one['test_id']} {one['issue_text']}" for one in results["results"]
    ]
    found += [f"{one['filename']}: {one['reason']}" for one in results["errors"]]
    return Report(not found, f"{len(found)} findings in {results['metrics']['_totals']['loc']:,} lines", found)


def licence() -> Report:
    """Every installed package against the allow-list."""
    policy = licences.Policy.load()
    installed = licences.installed(policy)
    found = licences.refused(installed, policy)
    remedy = "allow the licence, or accept the package with a reason: tool.graftline.licences in pyproject.toml"
    lines = [one.line for one in found] + ([remedy] if found else [])
    return Report(not found, f"{len(installed) - len(found)} of {len(installed)} packages on the list", lines)


CHECKS: dict[str, Callable[[], Report]] = {"vulnerabilities": vulnerabilities, "code": code, "licences": licence}


def main(arguments: list[str] | None = None) -> int:
    """Run the checks that are named, or all; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.audit", description=__doc__.splitlines()[0])
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"{', '.join(CHECKS)}; all of them by default")
    parser.add_argument("--list", action="store_true", help="print every package with its licence, and check nothing")
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.checks if name not in CHECKS]:
        parser.error(f"no such check: {', '.join(unknown)} (there are: {', '.join(CHECKS)})")
    if chosen.list:
        print("\n".join(one.line for one in licences.installed(licences.Policy.load())))
        return 0
    reports = {name: CHECKS[name]() for name in chosen.checks or CHECKS}
    for name, report in reports.items():
        print(f"{'✓' if report.passed else '✗'} {name:<16} {report.summary}")
        for line in report.findings:
            print(f"    {line}")
    return 0 if all(report.passed for report in reports.values()) else 1


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
