"""Which packages a result was made with: Graftline's own needs, and nothing else that is installed."""

from __future__ import annotations

from importlib import metadata

from pipeline.serving.packages import Package, made_with


def installed(folder, name, version, *requires, extras=()):
    """A distribution's metadata, as an installer leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Provides-Extra: {extra}" for extra in extras] + [f"Requires-Dist: {text}" for text in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")


def test_needs_are_followed_through_every_level(tmp_path, monkeypatch):
    """By the machine's markers and the extras that are asked for; a circle ends, and what is missing is left out."""
    monkeypatch.syspath_prepend(tmp_path)
    installed(tmp_path, "toy-root", "1.0", "Toy_Left>=1", "toy-right[fast]", 'toy-dev; extra == "dev"', extras=["dev"])
    installed(tmp_path, "toy-left", "1.5", "toy-right", 'toy-old; python_version < "3"')
    installed(tmp_path, "toy-right", "2.0", 'toy-engine; extra == "fast"', "toy-root", extras=["fast"])
    installed(tmp_path, "toy-engine", "3.0+cpu", "toy-missing")
    for stranger in ("toy-dev", "toy-old", "toy-stranger"):
        installed(tmp_path, stranger, "9")
    assert [
        Package("toy-engine", "3.0+cpu", ()),
        Package("toy-left", "1.5", ("toy-right",)),
        Package("toy-right", "2.0", ("toy-engine", "toy-root")),
        Package("toy-root", "1.0", ("toy-left", "toy-right")),
    ] == made_with("toy-root")


def test_graftline_is_made_with_torch_and_not_with_pytest():
    """The packages of the run, in the versions that are here; tools for development had no part in it."""
    versions = {package.name: package.version for package in made_with()}
    assert metadata.version("torch") == versions["torch"]
    assert {"graftline", "onnx", "numpy"} <= versions.keys()
    assert not {"pytest", "ruff", "mypy"} & versions.keys()


def test_nothing_is_known_of_what_is_not_installed():
    """No error: a checkout that runs from its path has no packages to name."""
    assert [] == made_with("no-such-package")
