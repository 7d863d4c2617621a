"""Provenance: the revision, digests and versions that identify a run."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

from pipeline.core import digests
from pipeline.reporting import provenance


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_revision_is_the_commit_and_says_what_is_uncommitted(tmp_path):
    """A clean checkout gives its commit; a changed tracked file is mentioned; without a commit there is none."""
    git(tmp_path, "init")
    assert provenance.revision(tmp_path) is None

    (tmp_path / "params.yaml").write_text("seed: 0\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = provenance.revision(tmp_path)
    assert len(clean) == 40

    (tmp_path / "params.yaml").write_text("seed: 1\n")
    assert f"{clean} with uncommitted changes" == provenance.revision(tmp_path)


def test_files_that_identify_the_run_are_digested(workspace):
    """The model's and the params' sha256 are given; files that are not there are left out."""
    found = dict(provenance.facts(workspace.root, workspace.settings))

    assert f"sha256 {digests.of_bytes(b'onnx')}" == found["Model"]
    assert "Source manifest" not in found


def test_a_source_that_is_not_there_has_no_digest(workspace):
    """Without one the stages write an empty manifest, which identifies nothing."""
    manifest = workspace.root / "data/manifest/source.parquet"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_bytes(b"empty")
    without = SimpleNamespace(**{**vars(workspace.settings), "ingest": SimpleNamespace(source=None)})

    assert "Source manifest" in dict(provenance.facts(workspace.root, workspace.settings))
    assert "Source manifest" not in dict(provenance.facts(workspace.root, without))


def test_versions_name_installed_packages_only():
    """Every entry is a package and its version."""
    found = [entry.split(" ") for entry in provenance.versions().split(" · ")]

    assert all(len(entry) == 2 for entry in found)
    assert "torch" in dict(found)
