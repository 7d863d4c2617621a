"""The command line's help: there for every command, and quick because nothing heavy is imported for it."""

from __future__ import annotations

import platform
from importlib import metadata

import pytest
import typer
from integration_tools import heavy_packages_of
from typer.testing import CliRunner

from pipeline import __version__
from pipeline.cli import app as cli_app
from pipeline.cli.app import app


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_told_with_those_of_what_it_is_built_on(option):
    """What a report of a fault should begin with."""
    result = CliRunner().invoke(app, [option])

    assert 0 == result.exit_code
    assert result.output.startswith(f"graftline {__version__}\ntorch {metadata.version('torch')}, ")
    assert f"Python {platform.python_version()}" in result.output


def test_the_version_of_what_is_missing_is_told_as_missing(monkeypatch):
    """A broken installation is where versions are asked for."""
    monkeypatch.setattr(cli_app, "BUILT_ON", ("torch", "onnxruntime-of-nobody"))
    result = CliRunner().invoke(app, ["--version"])

    assert 0 == result.exit_code
    assert ", onnxruntime-of-nobody missing\n" in result.output


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(arguments):
    """A fresh process that shows help has imported none of the heavy packages."""
    assert heavy_packages_of(*arguments) == set()


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands))
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help(command, option):
    """Usage and a sentence, and exit code 0."""
    result = CliRunner().invoke(app, [command, option])

    assert 0 == result.exit_code
    assert f"{command} [OPTIONS]" in result.output


def test_help_lists_every_command():
    """Each with a sentence of its own."""
    commands = typer.main.get_command(app).commands
    listed = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output

    assert [] == [name for name in commands if f" {name} " not in listed]
    assert [] == [name for name, command in commands.items() if not command.help]
