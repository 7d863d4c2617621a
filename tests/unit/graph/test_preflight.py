"""What params.yaml alone tells is told before the first stage."""

import pytest

from pipeline import params
from pipeline.core.errors import DataError, ParamsError, WeightsError
from pipeline.graph import preflight


def settings(text: str, folder) -> params.Settings:
    (folder / "params.yaml").write_text(text)
    return params.load(folder)


def test_the_defaults_pass(tmp_path):
    """Digits that are drawn, from a source that is drawn; of fetched weights nothing is asked here."""
    preflight.check(tmp_path, settings("seed: 1\n", tmp_path))
    preflight.check(tmp_path, settings("ingest: {source: null}\nbackbone: {name: resnet18, weights: V1}\n", tmp_path))


@pytest.mark.parametrize(
    ("backbone", "strategy", "fits"),
    [
        ("{weights: pretrain}", "probe", False),
        ("{candidates: [{name: small_cnn, weights: none}, {name: small_cnn, weights: pretrain}]}", "probe", False),
        ("{weights: pretrain, pretrain: {objective: autoencoder}}", "probe", True),
        ("{weights: none}", "probe", True),
        ("{weights: none}", "dann", True),  # of a target with labels and images without
        ("{weights: none}", "coral", False),
        ("{weights: none}", "multitask", False),
        ("{weights: none}", "auto", True),
    ],
)
def test_what_learns_from_a_source_needs_one(tmp_path, backbone, strategy, fits):
    """Pretraining on its labels, and strategies that ask for it; with one, nothing is said."""
    text = f"backbone: {backbone}\ntrain: {{strategy: {strategy}}}\n"
    preflight.check(tmp_path, settings(text, tmp_path))
    without = settings(f"{text}ingest: {{source: null}}\n", tmp_path)
    if fits:
        preflight.check(tmp_path, without)
        return
    with pytest.raises(DataError) as caught:
        preflight.check(tmp_path, without)
    assert "ingest.source: null" == caught.value.found
    assert "ingest.source" in caught.value.remedy


def test_what_stages_read_from_outside_is_there(tmp_path):
    """A checkpoint is read by the third stage, and missed before the first."""
    wanted = settings("ingest: {source: null}\nbackbone: {weights: {file: gone.pt}}\n", tmp_path)
    with pytest.raises(WeightsError, match=r"'gone.pt', which does not exist"):
        preflight.check(tmp_path, wanted)


@pytest.mark.parametrize(
    ("backbone", "blocks"),
    [
        ("{name: small_cnn, weights: none}", "at most the 4 blocks of small_cnn: stem"),
        ("{candidates: [{name: mobilenet_v2, weights: V1}, {name: resnet18, weights: V1}]}", "5 blocks of resnet18"),
    ],
)
def test_a_strategy_looks_at_the_backbone_it_may_be_given(tmp_path, backbone, blocks):
    """Six frozen blocks are too many for these, whichever of the candidates is chosen; said before the first stage."""
    text = f"backbone: {backbone}\ntrain: {{strategy: {{name: partial, frozen_blocks: FROZEN}}}}\n"
    preflight.check(tmp_path, settings(text.replace("FROZEN", "4"), tmp_path))
    with pytest.raises(ParamsError) as caught:
        preflight.check(tmp_path, settings(text.replace("FROZEN", "6"), tmp_path))
    assert blocks in caught.value.expected
    assert "train.strategy.frozen_blocks in params.yaml" == caught.value.where
