"""What every part of the suite may use: toy domains (three classes of bright bars, made on the spot), and a workspace
that a whole run has been through.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import hypothesis
import numpy as np
import pandas as pd
import pytest
from integration_tools import graftline, small_workspace
from PIL import Image
from tally import pytest_collection_modifyitems  # noqa: F401  # a hook

from pipeline.core import digests
from pipeline.core.context import Context
from pipeline.data.labels import LabelSpace
from pipeline.data.manifest import Manifest

if TYPE_CHECKING:
    from pipeline.models.checkpoints import BackboneWeights

# The same examples every time: a change is judged by what it changed. HYPOTHESIS_PROFILE=search looks for new ones.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.register_profile("search", max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where this process and those it starts put temporary files: what is left there goes with pytest's own."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", tempfile.gettempdir())  # its sockets' paths may have 107 bytes, and not more
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


SPLITS = ("train",) * 6 + ("val",) * 2 + ("test",) * 2


class ToyDomains(NamedTuple):
    """A source and a target with the same classes; the target's bars are dimmer and every other image is unlabelled."""

    workspace: Path
    source: Manifest
    target: Manifest
    labels: LabelSpace

    def context(self, **fields: object) -> Context:
        return Context(self.workspace, seed=0, device="cpu", workers=1, **fields)


def _image(random: np.random.Generator, bar: int, brightness: int) -> np.ndarray:
    pixels = random.integers(0, 90, (20, 24, 3)).astype(np.uint8)
    pixels[:, 4 + 6 * bar : 8 + 6 * bar] = brightness
    return pixels


def _row(workspace: Path, pixels: np.ndarray, name: str, **fields: object) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    path = workspace / "data" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    size = {"height": pixels.shape[0], "width": pixels.shape[1], "bytes": len(buffer.getvalue())}
    identity = {"id": digests.of_bytes(buffer.getvalue()), "path": f"data/{name}.png", "name": name}
    return {**identity, **size, "mode": "RGB", "format": "PNG", **fields}


def make_manifest(
    folder: Path, domain: str, *, per_class: int, brightness: int, seed: int = 0, labelled_every: int = 1
) -> Manifest:
    """Images of a toy domain, written to ``folder``."""
    random = np.random.default_rng([seed, brightness])
    rows = [
        _row(
            folder,
            _image(random, bar, brightness),
            f"{domain}-{seed}-{bar}-{number:03d}",
            label=f"class{bar}" if number % labelled_every == 0 else None,
            domain=domain,
            split=SPLITS[number % 10],
        )
        for bar in range(3)
        for number in range(per_class)
    ]
    return Manifest.of(pd.DataFrame(rows))


def make_domains(folder: Path, *, target_per_class: int = 20, target_brightness: int = 150) -> ToyDomains:
    """60 source images and some of the target, 20 × 24 px, split 6 : 2 : 2."""
    return ToyDomains(
        folder,
        make_manifest(folder, "source", per_class=20, brightness=220),
        make_manifest(folder, "target", per_class=target_per_class, brightness=target_brightness, labelled_every=2),
        LabelSpace(classes=["class0", "class1", "class2"]),
    )


@pytest.fixture
def toy_manifest(tmp_path: Path) -> Callable[..., Manifest]:
    """Make images of a toy domain: ``toy_manifest("target", per_class=10, brightness=150)``."""
    return partial(make_manifest, tmp_path)


@pytest.fixture
def toy_domains(tmp_path: Path) -> ToyDomains:
    """60 source and 60 target images, 20 × 24 px, split 6 : 2 : 2."""
    return make_domains(tmp_path)


@pytest.fixture(scope="session")
def lasting_domains(tmp_path_factory: pytest.TempPathFactory) -> ToyDomains:
    """The same for the whole session, with 120 target images, so that validation is large enough to choose by."""
    return make_domains(tmp_path_factory.mktemp("domains"), target_per_class=40)


@pytest.fixture(scope="session")
def near_domains(tmp_path_factory: pytest.TempPathFactory) -> ToyDomains:
    """The same, but for a target that is hardly darker than the source."""
    return make_domains(tmp_path_factory.mktemp("near-domains"), target_per_class=40, target_brightness=205)


@pytest.fixture(scope="session")
def pretrained(lasting_domains: ToyDomains) -> BackboneWeights:
    """small_cnn after some epochs on the toy source; it keeps the head it learned with."""
    from pipeline.stages import backbone

    params = backbone.Params(pretrain={"epochs": 6, "batch_size": 16, "min_steps_per_epoch": 4})
    result = backbone.run(params, lasting_domains.context(), source_manifest=lasting_domains.source)
    return result.outputs["backbone"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after one ``graftline run --inline``; its path holds a space. Do not change it."""
    folder = small_workspace(tmp_path_factory.mktemp("a space") / "finished")
    done = graftline("run", "--inline", workspace=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def copy_of(finished: Path, tmp_path: Path) -> Path:
    """That workspace, to do with as the test likes."""
    return Path(shutil.copytree(finished, tmp_path / "copy", symlinks=True))
