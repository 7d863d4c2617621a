"""The command line's help: there for every command, and quick because nothing heavy is imported for it."""

from __future__ import annotations

import pytest
import typer
from integration_tools import heavy_packages_of
from typer.testing import CliRunner

from pipeline.cli.app import app


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]], ids=" ".join)
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
