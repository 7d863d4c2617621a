"""``scale`` in params.yaml: what is refused, and that it makes nothing stale."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from pipeline import params
from pipeline.core.errors import ParamsError
from pipeline.graph import dvcfile
from pipeline.scale import engine
from pipeline.scale.options import Scale


def test_an_unknown_engine_lists_the_engines() -> None:
    """As every name that stands for a file."""
    with pytest.raises(ParamsError) as error:
        params.parse({"scale": {"engine": "rya"}}, where="params.yaml")
    assert "Expected one of: local, ray; found 'rya'" in str(error.value)
    assert "Did you mean 'ray'?" in str(error.value)


@pytest.mark.parametrize("address", ["10.0.0.1", "ray://head:10001", "http://head"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    """Ray's own client protocol is not used: Ray Data does not work through it."""
    with pytest.raises(ParamsError, match=r"scale\.address in params\.yaml"):
        params.parse({"scale": {"address": address}}, where="params.yaml")
    assert "head.local:6379" == params.parse({"scale": {"address": "head.local:6379"}}, where="").scale.address


def test_ray_that_is_not_installed_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for, and how to get it; the local engine needs nothing."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else real(name))
    engine.check(Scale())
    with pytest.raises(ParamsError) as error:
        engine.check(Scale(engine="ray"))
    assert str(error.value) == (
        "Expected the package ray, which scale.engine: ray needs; found none in this environment.\n"
        "  where:  scale.engine in params.yaml\n"
        "  remedy: pip install 'graftline[ray]', or set scale.engine to local."
    )


def test_scale_is_in_no_stages_key(tmp_path: Path) -> None:
    """dvc.yaml is the same whoever does the work: nothing is computed again for being computed elsewhere."""
    written = []
    for scale in ("", "scale: {engine: ray, address: auto, workers: 40}\n"):
        (tmp_path / "params.yaml").write_text(f"model: toys\n{scale}")
        written.append(dvcfile.text(tmp_path, params.load(tmp_path)))
    assert written[0] == written[1]
    assert "engines/ray.py" not in written[0]
