"""The last look before the alias moves: does the registry hand out what was judged?

The model is loaded the way deployment loads it, from the registry, and repeats the bundle's golden answers. It is
loaded by its number and not by its alias: in a registry that workspaces share, ``challenger`` may be another's by now.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.core.errors import BundleError, ReleaseError
from pipeline.serving import bundle as bundles
from pipeline.serving.golden import Golden, tolerance
from pipeline.serving.predictor import Predictor
from pipeline.tracking.registry import Registry, Version


def smoke_test(registry: Registry, version: Version, bundle: Path) -> str:
    """Answer the golden images of ``bundle`` with the model of ``version``; returns a line for people.

    Raises:
        BundleError: the bundle is not whole, or holds another model than the version.
        RegistryError: the stored file is not the one that was registered.
        ReleaseError: the answers differ from the recorded ones.
    """
    bundles.verify(bundle)
    _check_same_model(bundle, version.sha256, f"{registry.name} {version}")
    golden = Golden.load(bundle)
    with tempfile.TemporaryDirectory() as scratch:
        predictor = Predictor(registry.fetch(version, Path(scratch)))
        difference, limit = golden.difference(predictor), tolerance(predictor.metadata)
    if not difference <= limit:
        raise ReleaseError(
            f"{registry.name} {version}, loaded from the registry, does not repeat the golden answers of {bundle}: "
            f"probabilities differ by {difference:.1e} (at most {limit:.0e})."
        )
    return f"{registry.name} {version} repeats the golden answers of {len(golden.images)} images (Δp {difference:.0e})"


def _check_same_model(bundle: Path, sha256: str, title: str) -> None:
    found = bundles.read(bundle).model_sha256
    if found != sha256:
        raise BundleError(
            expected=f"a bundle of {title}, sha256 {sha256[:12]}…",
            found=f"one of another model, sha256 {found[:12]}…",
            where=str(bundle),
            remedy="Bring the stages up to date first: graftline run (or dvc repro).",
        )
