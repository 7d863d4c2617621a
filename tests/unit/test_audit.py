"""``make audit``: what its checks call a finding, and that a check which could not be made has failed."""

from __future__ import annotations

import json
import re
import subprocess
from email.message import Message
from types import SimpleNamespace

import pytest
from packaging.utils import canonicalize_name

from infra import audit, licences
from infra.licences import Licence, Policy

POLICY = Policy(frozenset({"MIT", "BSD-3-Clause", "Apache-2.0 WITH LLVM-exception"}), {}, {"nvidia-*": "a reason"})


# -- licences ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT AND (BSD-3-Clause OR GPL-3.0-only)", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0", False),
        ("mit", True),
        ("", False),
        ("Dual License", False),
        ("MIT AND (", False),
    ],
)
def test_an_expression_is_allowed_by_its_parts(expression, allowed):
    """``OR`` asks for one, ``AND`` for each; what cannot be read is not allowed."""
    assert allowed is POLICY.allows("toy", expression)


def test_a_package_is_accepted_by_name(monkeypatch):
    """Or by a pattern; its licence may be any."""
    assert POLICY.allows("nvidia-cublas", "LicenseRef-NVIDIA-Proprietary")
    assert not POLICY.allows("not-nvidia", "LicenseRef-NVIDIA-Proprietary")


@pytest.mark.parametrize(
    ("lines", "expression"),
    [
        (["License-Expression: MIT", "Classifier: License :: OSI Approved :: BSD License"], "MIT"),
        (["License: whatever", "Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (["Classifier: License :: OSI Approved", "License: BSD-3-Clause"], "BSD-3-Clause"),
        (
            [
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: OSI Approved :: BSD License",
            ],
            "LicenseRef-BSD AND MIT",
        ),
        (["License: Apache License 2.0"], "Apache-2.0"),
        (["Name: toy"], ""),
    ],
)
def test_a_licence_is_read_from_the_newest_form(lines, expression):
    """The expression, then classifiers, which hold together, then the free text."""
    facts = Message()
    for line in lines:
        key, _, value = line.partition(": ")
        facts[key] = value
    assert expression == licences.stated(facts)


def test_every_locked_package_is_on_the_list():
    """As installed here: a new dependency under another licence is noticed when it is added."""
    lock = (licences.PYPROJECT.parent / audit.LOCK).read_text()
    locked = {canonicalize_name(name) for name in re.findall(r"^([A-Za-z0-9_.-]+)==", lock, re.MULTILINE)}
    policy = Policy.load()
    installed = [one for one in licences.installed(policy) if one.package in locked]
    assert len(installed) > 100
    assert [] == [one.line for one in licences.refused(installed, policy)]


def test_a_stranger_is_refused_and_named(monkeypatch, capsys):
    """With where the list is."""
    strangers = [Licence("toy", "1.0", "GPL-3.0-only"), Licence("nameless", "2.0", "")]
    monkeypatch.setattr(licences, "installed", lambda _: strangers)
    assert 1 == audit.main(["licences"])
    said = capsys.readouterr().out
    assert "✗ licences         0 of 2 packages on the list" in said
    assert "toy 1.0: GPL-3.0-only" in said
    assert "nameless 2.0: no licence stated" in said
    assert "tool.graftline.licences in pyproject.toml" in said


# -- vulnerabilities ---------------------------------------------------------------------------------------------------


def test_a_known_vulnerability_is_named():
    """With the package, and what mends it."""
    flaw = {"id": "PYSEC-2031-1", "fix_versions": ["1.1", "2.0"]}
    other = {"name": "other", "version": "1", "vulns": []}
    report = audit.judged([{"name": "toy", "version": "1.0", "vulns": [flaw]}, other])
    assert (False, "1 known in 2 locked packages") == (report.passed, report.summary)
    assert ["toy 1.0: PYSEC-2031-1, mended in 1.1, 2.0"] == report.findings


def test_nothing_known_is_a_pass():
    assert audit.Report(True, "none known in 1 locked packages") == audit.judged(
        [{"name": "toy", "version": "1.0", "vulns": []}]
    )


@pytest.mark.parametrize("packages", [[], [{"name": "toy", "skip_reason": "Dependency not found on PyPI"}]])
def test_a_database_that_knows_nothing_is_no_pass(packages):
    """pip-audit itself ends with 0 there, and says that nothing is known."""
    report = audit.judged(packages)
    assert not report.passed
    assert "unknown to the database" in report.summary


def test_without_network_the_check_has_failed_and_says_so(monkeypatch, capsys):
    """One line, not pip-audit's traceback; the exit code is 1."""
    error = "Traceback (most recent call last):\n  …\nConnectionError: Failed to resolve 'pypi.org'"
    monkeypatch.setattr(audit, "_run", lambda *_: SimpleNamespace(stdout="", stderr=error))
    assert 1 == audit.main(["vulnerabilities"])
    said = capsys.readouterr().out
    assert "not checked: PyPI's database did not answer (ConnectionError: Failed to resolve 'pypi.org')" in said
    assert "python -m infra.audit code licences" in said
    assert "Traceback" not in said


def test_pip_audit_is_asked_about_the_lock_as_it_stands(monkeypatch):
    """With hashes and without pip: nothing is resolved, nothing installed."""
    asked = []

    def run(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, json.dumps({"dependencies": []}), "")

    monkeypatch.setattr(subprocess, "run", run)
    audit.vulnerabilities()
    (command,) = asked
    assert "pip_audit" == command[2]
    assert {"requirements.lock", "--require-hashes", "--disable-pip"} <= set(command)


# -- code --------------------------------------------------------------------------------------------------------------


def test_doubtful_code_is_named(tmp_path, monkeypatch):
    """With file, line and rule, under the settings of pyproject.toml: asserts pass, a shell does not."""
    (tmp_path / "pyproject.toml").write_text(licences.PYPROJECT.read_text())
    (tmp_path / "toy.py").write_text("import subprocess\nassert True\nsubprocess.run('ls ' + input(), shell=True)\n")
    monkeypatch.setattr(audit, "ROOT", tmp_path)
    monkeypatch.setattr(audit, "CODE", ("toy.py",))
    report = audit.code()
    assert not report.passed
    (finding,) = report.findings
    assert "toy.py:3 B602 " in finding


def test_our_code_has_no_findings():
    """Bandit on all of it."""
    report = audit.code()
    assert report.passed, report.findings


def test_an_unknown_check_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        audit.main(["spelling"])
    assert 2 == ended.value.code
    assert "no such check: spelling (there are: vulnerabilities, code, licences)" in capsys.readouterr().err
