"""`meshproxy ca serve`: the CA on the network."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

import click

from ca import authority as authorities
from ca.profiles import dns_name_fault
from meshproxy.cli.opening import (
    directory_option,
    given_passphrase,
    no_passphrase_option,
    passphrase_option,
    require_owner,
    told,
)
from meshproxy.cli.terminal import example, fail, wants_colour
from meshproxy.errors import StartError
from meshproxy.wire.address import Address, TcpAddress, parse_address

if TYPE_CHECKING:
    from pathlib import Path


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise click.BadParameter(f"found {text!a}; expected {error}") from None


def _listen(_ctx: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[TcpAddress, ...]:
    found = tuple(map(_address, texts))
    if any(not isinstance(each, TcpAddress) for each in found):
        raise click.BadParameter("a CA is asked over TCP; expected host:port or [v6]:port")
    return tuple(each for each in found if isinstance(each, TcpAddress))


def _admin(_ctx: click.Context, _parameter: click.Parameter, text: str) -> Address:
    address = _address(text)
    if not address.is_local:
        raise click.BadParameter(f"{address} can be reached from elsewhere; expected a loopback address or unix:/path")
    return address


@click.command(
    epilog=example(
        "meshproxy ca serve --dir ca --listen 0.0.0.0:8440 --name ca.internal --passphrase-file ca.pass",
        "meshproxy ca serve --dir ca --listen 127.0.0.1:8440 --admin unix:/run/ca.sock",
    )
)
@directory_option
@click.option(
    "--listen", required=True, multiple=True, metavar="H:P", callback=_listen, help="Where it is asked; repeatable."
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="A DNS name or an address it is reached by: for its certificate, and for tokens; repeatable.",
)
@click.option(
    "--admin",
    default="127.0.0.1:9910",
    show_default=True,
    metavar="ADDRESS",
    callback=_admin,
    help="Where /live, /ready, /status and /metrics are: loopback or unix:/path.",
)
@passphrase_option
@no_passphrase_option
def serve(
    *,
    directory: Path,
    listen: tuple[TcpAddress, ...],
    names: tuple[str, ...],
    admin: Address,
    passphrase_file: str | None,
    no_passphrase: bool,
) -> None:
    """Serve the CA on the network: enrol with tokens, renew, hand out whom to trust.

    Administration is not offered there: the other commands work on the same directory meanwhile. SIGTERM ends it, after
    who was accepted is served; SIGHUP reads ca.toml again. Exits 1 when it cannot start.
    """
    from meshproxy.enroll.own_leaf import ServerNames  # noqa: PLC0415 - other commands must not wait for it
    from meshproxy.runtime import process  # noqa: PLC0415 - as above
    from meshproxy.runtime.authority import AuthorityPlan  # noqa: PLC0415 - as above
    from meshproxy.telemetry.events import LogStyle  # noqa: PLC0415 - as above

    require_owner(directory)
    with told(directory):
        passphrase = given_passphrase(directory, passphrase_file, no_passphrase=no_passphrase)
        authorities.open_authority(directory, passphrase=passphrase)  # a wrong one is told before anything begins
    plan = AuthorityPlan(directory, listen, admin, ServerNames(*_names(names, listen)), passphrase)
    watched = sys.stderr.isatty()
    look = process.LogLook(LogStyle.CONSOLE if watched else LogStyle.JSON, colors=wants_colour(sys.stderr))
    try:
        nothing_cut = process.serve_authority(plan, look)
    except StartError as error:
        fail(f"{error}; nothing was started", exit_code=1)
    raise SystemExit(0 if nothing_cut else 1)


def _names(
    names: tuple[str, ...], listen: tuple[TcpAddress, ...]
) -> tuple[tuple[str, ...], tuple[IPv4Address | IPv6Address, ...]]:
    """What goes into its certificate: the names it was given, and the addresses it listens at but for wildcards."""
    dns: list[str] = []
    ips: list[IPv4Address | IPv6Address] = []
    for name in (*names, *(each.host for each in listen)):
        try:
            ip = ip_address(name)
        except ValueError:
            if fault := dns_name_fault(name):
                raise click.UsageError(f"--name {name!a}: {fault}") from None
            dns.append(name)
        else:
            if not ip.is_unspecified:
                ips.append(ip)
    return tuple(dict.fromkeys(dns)), tuple(dict.fromkeys(ips))
