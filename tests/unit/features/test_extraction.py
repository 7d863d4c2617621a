"""Features: computed once per image, the same whatever else is in the batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core import device
from pipeline.core.context import Context
from pipeline.core.device import computing
from pipeline.core.errors import DataError
from pipeline.data.images import ImageStore
from pipeline.data.manifest import Manifest
from pipeline.data.transforms import preprocess
from pipeline.features import extraction
from pipeline.features.extraction import Extraction, extract
from pipeline.features.options import ExtractionOptions
from pipeline.features.table import FeatureTable
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import BackboneWeights, random_weights

CPU = torch.device("cpu")


@pytest.fixture
def weights() -> BackboneWeights:
    return random_weights("small_cnn", 0, backbone("small_cnn").preprocessing)


@pytest.fixture
def forwarded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each forward pass was given."""
    counts: list[int] = []
    real = extraction.forward

    def counting(engine: Any, images: torch.Tensor, *rest: Any) -> np.ndarray:
        counts.append(len(images))
        return real(engine, images, *rest)

    monkeypatch.setattr(extraction, "forward", counting)
    return counts


def run(weights: BackboneWeights, manifests: list[Manifest], context: Context, **fields: Any) -> Extraction:
    return extract(weights, manifests, context, CPU, ExtractionOptions(**{"batch_size": 16, **fields}))


def test_equals_the_backbone_image_by_image(toy_domains: Any, weights: BackboneWeights) -> None:
    """Row i of the table is what the frozen backbone makes of image i of the manifest."""
    table = run(weights, [toy_domains.source], toy_domains.context()).tables[0]
    network = weights.build()
    for row, image in enumerate(ImageStore(toy_domains.workspace, 1).pixels(toy_domains.source)):
        seen = preprocess(torch.tensor(image).permute(2, 0, 1)[None], weights.preprocessing)
        with torch.inference_mode():
            assert np.allclose(network(seen)[0].numpy(), table.features[row], atol=1e-5)


def test_second_run_computes_none_and_ten_new_images_cost_ten(
    toy_domains: Any,
    toy_manifest: Callable[..., Manifest],
    weights: BackboneWeights,
    forwarded: list[int],
    tmp_path: Path,
) -> None:
    """Counted at the network's door."""
    context = toy_domains.context(cache=tmp_path / "cache")
    manifests = [toy_domains.source, toy_domains.target]
    assert (120, 0) == run(weights, manifests, context)[1:3]
    assert 120 == sum(forwarded)
    forwarded.clear()
    assert (0, 120) == run(weights, manifests, context)[1:3]
    assert [] == forwarded
    grown = toy_manifest("target", per_class=10, brightness=150, seed=1).frame.head(10)
    manifests.append(Manifest.of(grown))
    assert (10, 120) == run(weights, manifests, context)[1:3]
    assert 10 == sum(forwarded)


def test_other_weights_and_other_preprocessing_share_nothing(
    toy_domains: Any, weights: BackboneWeights, tmp_path: Path
) -> None:
    """The cache's key covers what the features depend on."""
    context = toy_domains.context(cache=tmp_path / "cache")
    larger = weights.preprocessing.model_copy(update={"size_px": 40, "resize_px": 40})
    for start in (
        weights,
        random_weights("small_cnn", 1, weights.preprocessing),
        random_weights("small_cnn", 0, larger),
    ):
        assert 60 == run(start, [toy_domains.source], context).computed
    assert 60 == run(weights, [toy_domains.source], context, dtype="float16").computed


def test_features_do_not_depend_on_what_was_cached(toy_domains: Any, weights: BackboneWeights, tmp_path: Path) -> None:
    """Computed all at once or in two goes, in other company, the bits are the same."""
    whole = run(weights, [toy_domains.source], toy_domains.context()).tables[0]
    context = toy_domains.context(cache=tmp_path / "cache")
    run(weights, [toy_domains.source.split("val")], context)
    pieced = run(weights, [toy_domains.source], context).tables[0]
    assert np.array_equal(whole.features, pieced.features)


def test_an_image_that_changed_leaves_no_bar_behind(
    toy_domains: Any, weights: BackboneWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meter is closed whatever ends the work: the message stands on a line of its own, the stream is given back."""
    closed: list[str] = []
    monkeypatch.setattr(extraction.Meter, "close", lambda meter: closed.append(meter.what))
    first, second = (toy_domains.workspace / path for path in toy_domains.source.frame["path"][:2])
    first.write_bytes(second.read_bytes())
    with pytest.raises(DataError, match="it has changed since ingest"):
        run(weights, [toy_domains.source], toy_domains.context())
    assert ["features"] == closed


def test_a_kill_costs_only_what_was_not_flushed(
    toy_domains: Any, weights: BackboneWeights, forwarded: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Died in the third batch with a flush after each: the next run computes the rest, to the same result."""
    monkeypatch.setattr(extraction, "FLUSH_EVERY", 16)
    context = toy_domains.context(cache=tmp_path / "cache")
    undisturbed = run(weights, [toy_domains.source], toy_domains.context()).tables[0]
    forwarded.clear()
    real = extraction.forward

    def dying(*arguments: Any) -> np.ndarray:
        if len(forwarded) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(extraction, "forward", dying)
    with pytest.raises(KeyboardInterrupt):
        run(weights, [toy_domains.source], context)
    monkeypatch.setattr(extraction, "forward", real)
    resumed = run(weights, [toy_domains.source], context)
    assert (28, 32) == (resumed.computed, resumed.cached)
    assert np.array_equal(undisturbed.features, resumed.tables[0].features)


def test_images_of_different_sizes_share_a_batch(
    toy_domains: Any, toy_manifest: Callable[..., Manifest], weights: BackboneWeights
) -> None:
    """Each is preprocessed by itself, then they are stacked; an image in two manifests counts once."""
    found = run(weights, [toy_domains.source, toy_domains.source], toy_domains.context())
    assert 60 == found.computed
    assert np.array_equal(found.tables[0].features, found.tables[1].features)


def test_an_empty_manifest_gives_an_empty_table(weights: BackboneWeights, tmp_path: Path) -> None:
    """No source is no error: a table of zero rows with the right width."""
    table = run(weights, [Manifest.empty()], Context(tmp_path, 0)).tables[0]
    assert (0, 256) == table.features.shape


def test_table_survives_a_round_trip_and_finds_rows_by_image(
    toy_domains: Any, weights: BackboneWeights, tmp_path: Path
) -> None:
    """Loaded by memory map, it gives the features of any subset in the subset's order."""
    table = run(weights, [toy_domains.source], toy_domains.context(), dtype="float16").tables[0]
    table.save(tmp_path / "features")
    loaded = FeatureTable.load(tmp_path / "features")
    val = toy_domains.source.split("val")
    rows = [table.ids.index(image_id) for image_id in val.frame["id"]]
    assert isinstance(loaded.features, np.memmap)
    assert np.array_equal(table.features[rows].astype(np.float32), loaded.of(val))


def test_features_do_not_depend_on_the_number_of_threads(toy_domains: Any, weights: BackboneWeights) -> None:
    """Threads do whole batches: one, two or five at once, the bits are the same, in the manifest's order."""
    found = []
    for threads in (1, 2, 5):
        with computing("cpu", 0, threads):
            found.append(run(weights, [toy_domains.source], toy_domains.context(), batch_size=8).tables[0])
    assert found[0].ids == found[1].ids == found[2].ids
    assert np.array_equal(found[0].features, found[1].features)
    assert np.array_equal(found[0].features, found[2].features)


def test_batches_are_computed_side_by_side_each_on_one_thread(
    toy_domains: Any, weights: BackboneWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once on two threads: each waits until the other is there; torch's count is what it was afterwards."""
    real, both, inside = extraction.forward, threading.Barrier(2, timeout=60), []

    def meeting(*arguments: Any) -> np.ndarray:
        both.wait()
        inside.append(torch.get_num_threads())
        return real(*arguments)

    monkeypatch.setattr(extraction, "forward", meeting)
    with computing("cpu", 0, 2):
        run(weights, [toy_domains.source], toy_domains.context(), batch_size=15)
        assert torch.get_num_threads() == 2
    assert inside == [1, 1, 1, 1]


def test_little_memory_lets_fewer_batches_work_at_once(
    toy_domains: Any, weights: BackboneWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at least: on many cores a batch for each would be too much for a small container."""
    real, working, most = extraction.forward, [], []

    def watched(*arguments: Any) -> np.ndarray:
        working.append(1)
        most.append(len(working))
        time.sleep(0.02)
        working.pop()
        return real(*arguments)

    monkeypatch.setattr(extraction, "forward", watched)
    monkeypatch.setattr(device, "available_bytes", lambda: 0)
    with computing("cpu", 0, 4):
        run(weights, [toy_domains.source], toy_domains.context(), batch_size=8)
    assert max(most) == 1


def test_damaged_features_are_computed_again(toy_domains: Any, weights: BackboneWeights, tmp_path: Path) -> None:
    """One bit of one segment: its images alone are new, and the table is that of the first run."""
    context = toy_domains.context(cache=tmp_path / "cache")
    run(weights, [toy_domains.source.split("val")], context)
    first = run(weights, [toy_domains.source], context).tables[0].array
    smaller, _ = sorted((tmp_path / "cache").rglob("features.npy"), key=lambda file: file.stat().st_size)
    damaged = bytearray(smaller.read_bytes())
    damaged[-1] ^= 1
    smaller.write_bytes(damaged)
    again = run(weights, [toy_domains.source], context)
    assert (12, 48) == (again.computed, again.cached)
    assert np.array_equal(first, again.tables[0].features)
    assert (0, 60) == run(weights, [toy_domains.source], context)[1:3]


def test_an_overwritten_image_is_not_remembered_as_the_old_one(
    toy_domains: Any, weights: BackboneWeights, tmp_path: Path
) -> None:
    """The file changed between ingest and here: an error, and nothing under the old image's digest in the cache."""
    context = toy_domains.context(cache=tmp_path / "cache")
    first, second = (toy_domains.workspace / path for path in toy_domains.source.frame["path"][:2])
    first.write_bytes(second.read_bytes())
    with pytest.raises(DataError, match="it has changed since ingest"):
        run(weights, [toy_domains.source], context)
    assert [] == list((tmp_path / "cache").rglob("segment-*"))
