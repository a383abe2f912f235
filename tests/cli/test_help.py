"""What the commands say of themselves fits a terminal of 80 columns, examples too."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from meshproxy.cli.main import cli


def commands(command: click.Command, words: tuple[str, ...]) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [words]
    context = click.Context(command)
    below = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    return [words, *(each for name, found in below if found is not None for each in commands(found, (*words, name)))]


ALL = [words for group in ("policy", "audit") for words in commands(cli, ()) if words[:1] == (group,)]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_fits_and_has_an_example(words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(cli, [*words, "--help"], terminal_width=80, prog_name="meshproxy")
    assert said.exit_code == 0
    assert [line for line in said.stdout.splitlines() if len(line) > 80] == []
    assert "Example:\n" in said.stdout
