"""Archives: Graftline unpacks none to disk, and those that are read where they lie may not be larger than they look."""

from __future__ import annotations

import ast
import io
import json
import tarfile
import urllib.request
import zipfile
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest

from pipeline.core import digests
from pipeline.core.context import Context
from pipeline.core.errors import BundleError, DataError, RegistryError, ServiceError
from pipeline.data.sources import torchvision_set
from pipeline.serving.golden import INPUTS, OUTPUTS, Golden
from pipeline.training.classifiers.federation import Statistics

PACKAGES = Path(__file__).parents[2]

UNPACKING = {"extractall", "extract", "unpack_archive", "extractfile"}
"""What would write an archive's members to disk, or follow its links."""


@pytest.mark.parametrize("package", ["pipeline", "flows", "infra"])
def test_the_product_unpacks_no_archive(package: str) -> None:
    """Images come as folders and tables; whoever has an archive is told to unpack it."""
    found = [
        f"{file.relative_to(PACKAGES)}:{node.lineno}"
        for file in (PACKAGES / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in UNPACKING
    ]
    assert found == []


def hostile_tar(file: Path, canary: Path) -> None:
    """Members that leave the folder by their names or by links, and a device."""
    with tarfile.open(file, "w:gz") as archive:
        for name in ("../canary", str(canary), "link/canary"):
            member = tarfile.TarInfo(name)
            member.size = 6
            if name.startswith("link"):
                link = tarfile.TarInfo("link")
                link.type, link.linkname = tarfile.SYMTYPE, str(canary.parent)
                archive.addfile(link)
            archive.addfile(member, io.BytesIO(b"canary"))
        for kind in (tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"odd-{kind!r}")
            member.type, member.linkname = kind, "/etc/hostname"
            archive.addfile(member)


@pytest.mark.parametrize("download", [False, True])
def test_an_archive_that_torchvision_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, download: bool
) -> None:
    """torchvision unpacks what has the digest in its code and nothing else; another file of that name stays packed."""
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: (_ for _ in ()).throw(URLError("no network")))
    root, canary = tmp_path / "root", tmp_path / "away" / "canary"
    for folder in (root, canary.parent):
        folder.mkdir()
    hostile_tar(root / "cifar-10-python.tar.gz", canary)
    params = torchvision_set.Params(dataset="CIFAR10", root=str(root), download=download)
    with pytest.raises(ServiceError if download else DataError, match="CIFAR10"):
        torchvision_set.records(params, Context(tmp_path, seed=0))
    assert [] == list(canary.parent.iterdir())
    assert {"cifar-10-python.tar.gz"} >= {path.name for path in root.iterdir()}
    assert not (tmp_path / "canary").exists()


# -- read where they lie -----------------------------------------------------------------------------------------------


def npz_bomb(file: Path, *names: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file.open("wb"), **{name: np.zeros(5_000_000) for name in names})


def npz_liar(file: Path, *names: str) -> None:
    """Arrays that say they have 10¹⁵ numbers, and have none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }"
    header = header.ljust(117) + b"\n"
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


BOMBS = {"packed": npz_bomb, "lying": npz_liar}


@pytest.mark.parametrize("bomb", BOMBS)
def test_sums_of_another_site(tmp_path: Path, bomb: str) -> None:
    """Refused with the site's file and a way out; no memory is given away."""
    BOMBS[bomb](tmp_path / "site.npz", "counts", "totals", "products", "classes", "digests")
    with pytest.raises(DataError, match=r"of another site in site\.npz; found (ValueError|.*MemoryError)"):
        Statistics.load(tmp_path / "site.npz")


@pytest.mark.parametrize("bomb", BOMBS)
def test_golden_answers_of_a_bundle_from_elsewhere(tmp_path: Path, bomb: str) -> None:
    """A damaged bundle like any other."""
    BOMBS[bomb](tmp_path / INPUTS, "image_000")
    BOMBS[bomb](tmp_path / OUTPUTS, "names", "logits", "probabilities")
    with pytest.raises(BundleError, match="golden images and answers"):
        Golden.load(tmp_path)


@pytest.mark.parametrize("name", ["../canary", "{away}/canary", "a/../../canary", "..\\canary", ""])
def test_a_bundle_from_the_registry_stays_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its index is the store's word: a name that leads elsewhere is refused, and nothing is written."""
    from mlflow import artifacts

    from pipeline.tracking import bundles

    kept, away = tmp_path / "kept", tmp_path / "away"
    for folder in (kept, away):
        folder.mkdir()
    (kept / "model.onnx").write_bytes(b"canary")
    sha256 = digests.of_bytes(b"canary")
    (kept / bundles.INDEX).write_text(json.dumps({name.format(away=away): sha256}))
    monkeypatch.setattr(artifacts, "download_artifacts", lambda **_: str(kept))
    version = SimpleNamespace(sha256=sha256, tags={}, run_id="r1", number=1)
    registry = SimpleNamespace(
        session=SimpleNamespace(uri="sqlite:///x"), fetch=lambda *_: kept / "model.onnx", name="m"
    )
    with pytest.raises(RegistryError, match="a file that is to lie outside the bundle"):
        bundles.restore_bundle(registry, version, tmp_path / "handoff" / "v1", print)
    assert [] == list(away.iterdir())
    assert [] == list((tmp_path / "handoff").iterdir())
    assert not (tmp_path / "canary").exists()
