"""The command `meshproxy`: a group whose commands are imported only when they are called.

A running sidecar pays for what it uses: `meshproxy run` imports no room of the CA's commands. The table below is all
`meshproxy --help` needs.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Final

import click

from meshproxy import __version__
from meshproxy.cli.terminal import example


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command lives, and the line `--help` says about it."""

    room: str
    attribute: str
    summary: str


COMMANDS: Final = {
    "run": Entry("meshproxy.cli.operate", "run", "Run one sidecar in the foreground."),
    "check": Entry("meshproxy.cli.operate", "check", "Judge everything run would load; bind nothing."),
    "status": Entry("meshproxy.cli.operate", "status", "Ask a running sidecar how it is."),
    "top": Entry("meshproxy.cli.top", "top", "Watch sidecars: who calls whom, how often, how quick."),
    "wait-ready": Entry("meshproxy.cli.operate", "wait_ready", "Wait until a sidecar serves, for start ordering."),
    "dashboard": Entry("meshproxy.cli.dashboard", "dashboard", "Show many sidecars as one mesh, in a browser."),
    "enroll": Entry("meshproxy.cli.enrolment", "enroll", "Get an identity from a CA with a join token."),
    "renew": Entry("meshproxy.cli.enrolment", "renew", "Renew an identity, once or for ever."),
    "ca": Entry("meshproxy.cli.authority", "ca", "Make a certificate authority and issue identities."),
    "policy": Entry("meshproxy.cli.policy.group", "policy", "Ask, check and compare allow-lists."),
    "audit": Entry("meshproxy.cli.audits", "audit", "Judge and search audit logs."),
    "inspect": Entry("meshproxy.cli.identity", "inspect", "Tell what a certificate or a live endpoint is."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import and return a command, or None for a name that is none (click then says so, exit 2)."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.room), entry.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.room}.{entry.attribute} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """List the commands from the table; click's own way would import them all for one line each."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example(
        "meshproxy ca init --dir ca --trust-domain mesh.local --no-passphrase",
        "meshproxy ca issue /web --dir ca --out web/identity",
        "meshproxy run web/sidecar.toml",
    ),
)
@click.version_option(__version__, prog_name="meshproxy")
def cli() -> None:
    """Give every service an identity and a bodyguard: a small CA, and a mutual-TLS sidecar with an allow-list."""


def main() -> None:
    """Run the command line; exits 0 for yes, 1 for no, 2 for usage and unreadable input."""
    cli(prog_name="meshproxy")
