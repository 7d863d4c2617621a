"""Seeds and streams."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import seeding

OF_TODAY = {("split",): 1_105_137_867_662_287_046, ("train", 3, "shuffle"): 1_627_199_121_321_537_270}


@given(st.integers(0, 2**32), st.text(), st.text())
def test_streams_depend_on_their_names_alone(seed, first, second):
    """Equal names give equal seeds, other names others, and all fit into 63 bits."""
    assert seeding.derive(seed, first) == seeding.derive(seed, first)
    assert (seeding.derive(seed, first) == seeding.derive(seed, second)) == (first == second)
    assert 0 <= seeding.derive(seed, first) < 2**63
    assert 0 <= seeding.unit(seed, first) < 1


def test_streams_of_today_are_those_of_tomorrow():
    """A run can be replayed with another version only if its seeds are the same."""
    assert {names: seeding.derive(7, *names) for names in OF_TODAY} == OF_TODAY
    assert seeding.unit(7, "split") == OF_TODAY["split",] / 2**63


def test_units_fill_the_interval():
    """Evenly: each tenth of it gets about a tenth of them, by their names and by their seeds."""
    for units in ([seeding.unit(0, name) for name in range(2000)], [seeding.unit(seed, "x") for seed in range(2000)]):
        tenths = [sum(int(unit * 10) == tenth for unit in units) for tenth in range(10)]
        assert sum(tenths) == 2000
        assert min(tenths) > 140
        assert max(tenths) < 260


def test_torch_draws_what_the_seed_says():
    """Equal seeds, equal draws; on a machine without CUDA nothing else is changed."""
    import torch

    draws = []
    for seed in (3, 3, 4):
        seeding.seed_torch(seed)
        draws.append(torch.rand(1).item())
    assert draws[0] == draws[1] != draws[2]


def test_on_a_gpu_torch_is_asked_to_be_deterministic(monkeypatch):
    """Where a GPU has another way of computing; cuDNN tries out none, for what it takes depends on the clock."""
    import torch

    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode, **options: asked.append((mode, options)))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    seeding.seed_torch(3)
    assert asked == [(True, {"warn_only": True})]
    assert torch.backends.cudnn.benchmark is False
