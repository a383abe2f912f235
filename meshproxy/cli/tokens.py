"""`meshproxy ca token`: let somebody in, once, without handing him a key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca import invitations, premises, storage, tokens
from ca.invitations import Invitation
from ca.lifetime import in_words
from ca.occupancy import addresses_of_server
from ca.profiles import Names
from ca.rows import Token, TokenState
from ca.spiffe_id import complete
from ca.tokens import TokenError
from meshproxy.cli.opening import addresses, directory_option, duration, json_option, ledger_at, refresh_head, told
from meshproxy.cli.terminal import Tone, example, fail, paint, print_json, printable

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address


@click.group(
    epilog=example(
        "meshproxy ca token create /web --ttl 10m --ca ca.internal:8440 --out web.token --dir ca",
        "meshproxy ca token list --dir ca",
    )
)
def token() -> None:
    """Make, list and revoke join tokens: whoever holds one may enrol as one identity."""


@token.command(epilog=example("meshproxy ca token create /web --ttl 10m --uses 1 --out web.token --dir ca"))
@click.argument("identity", metavar="/PATH")
@directory_option
@click.option(
    "--ttl", default="10m", show_default=True, metavar="DURATION", callback=duration, help="Life of the token."
)
@click.option("--uses", default=1, show_default=True, help="How many may enrol with it, each with a key of his own.")
@click.option(
    "--leaf-ttl", metavar="DURATION", callback=duration, help="Life of the certificates.  [default: the CA's]"
)
@click.option("--dns", multiple=True, metavar="NAME", help="A DNS name for peers that know no SPIFFE; repeatable.")
@click.option("--ip", "ips", multiple=True, metavar="ADDRESS", callback=addresses, help="An address, likewise.")
@click.option(
    "--ca",
    "at",
    multiple=True,
    metavar="HOST:PORT",
    help="Where the CA is, for the token; repeatable.  [default: where meshproxy ca serve is, if it runs]",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the token into a file (0600), not to stdout.")
def create(
    *,
    identity: str,
    directory: Path,
    ttl: timedelta,
    uses: int,
    leaf_ttl: timedelta | None,
    dns: tuple[str, ...],
    ips: tuple[IPv4Address | IPv6Address, ...],
    at: tuple[str, ...],
    out: Path | None,
) -> None:
    """Make a token for the identity /PATH. It is a secret: whoever holds it is let in, until it is used or expires.

    It also holds the fingerprints of the CA's roots, so whoever enrols with it needs to trust nobody else. It is shown
    here once; the CA keeps a hash of it.
    """
    now = datetime.now(UTC)
    with ledger_at(directory) as ledger:
        at = at or addresses_of_server(directory)
        configured = premises.read_configuration(directory)
        try:
            names = Names(complete(identity, configured.trust_domain), dns, ips)
            invitation = Invitation(names, ttl, uses, leaf_ttl, at)
            made = invitations.create(configured, ledger, invitation, now=now)
        except TokenError as error:
            fail(f"no token was made: {error}; --ca takes HOST:PORT, up to eight times")
        except ValueError as error:
            fail(str(error))
        text = tokens.encode(made)
        try:
            if out is not None:
                with told(out):
                    storage.write_file(out, text.encode() + b"\n")
        except SystemExit:  # nobody has it, so nobody shall wonder whose it is
            with ledger.writing() as transaction:
                known = transaction.get(Token, made.id.hex())
                assert known is not None, "it was recorded a moment ago"
                invitations.end(transaction, known, why="its file could not be written", now=now)
            raise
        finally:
            refresh_head(directory, ledger, now=now)
    if out is None:
        click.echo(text)
    words = f"for {names.id}, {_times(uses)}, within {in_words(ttl)}"
    click.echo(f"meshproxy: token {made.id.hex()} {words}{f', written to {out}' if out else ''}", err=True)
    if at:
        click.echo(f"meshproxy: it leads to {', '.join(at)}", err=True)
    else:
        click.echo("meshproxy: it does not say where the CA is: enrol with --ca HOST:PORT", err=True)


@token.command("list", epilog=example("meshproxy ca token list --dir ca", "meshproxy ca token list --all --dir ca"))
@directory_option
@click.option("--all", "everything", is_flag=True, help="Those that are over as well.")
@json_option
def list_tokens(*, directory: Path, everything: bool, as_json: bool) -> None:
    """List the tokens that somebody could still enrol with."""
    now = datetime.now(UTC)
    with ledger_at(directory) as ledger, ledger.reading() as view:
        found = [each for each in view.every(Token) if everything or invitations.is_open(each, now=now)]
    found.sort(key=lambda each: each.created)
    if as_json:
        print_json([_portrait(each, now) for each in found])
        return
    for each in found:
        tone = Tone.GOOD if invitations.is_open(each, now=now) else Tone.FAINT
        click.echo(
            f"{each.token}  {printable(each.id)}  {paint(_state(each, now), tone)}, used {each.used}/{each.uses}"
        )
    if not found:
        click.echo("no tokens", err=True)


@token.command(epilog=example("meshproxy ca token revoke 0f3a9d1c77b24e6088a1c2d3e4f50617 --dir ca"))
@click.argument("name", metavar="ID")
@directory_option
@click.option("--reason", default="", help="For the record.")
def revoke(*, name: str, directory: Path, reason: str) -> None:
    """End the token with this ID before its time. What it was used for stays; see meshproxy ca revoke."""
    now = datetime.now(UTC)
    with ledger_at(directory) as ledger:
        with ledger.writing() as transaction:
            known = transaction.get(Token, name)
            if known is None:
                fail(f"there is no token {printable(name[:64])}; see meshproxy ca token list")
            if known.state is TokenState.OPEN:
                invitations.end(transaction, known, why=reason, now=now)
        refresh_head(directory, ledger, now=now)
    click.echo(f"token {name} for {known.id} is over")


def _state(each: Token, now: datetime) -> str:
    if each.state is not TokenState.OPEN:
        return each.state.value
    if each.used >= each.uses:
        return "used up"
    return f"{in_words(each.expires - now)} left" if now <= each.expires else "expired"


def _portrait(each: Token, now: datetime) -> dict[str, object]:
    """All but the hash of the secret: it is of no use to anybody."""
    return {
        "token": each.token,
        "id": each.id,
        "state": each.state,
        "open": invitations.is_open(each, now=now),
        "uses": each.uses,
        "used": each.used,
        "created": each.created,
        "expires": each.expires,
        "dns": each.dns,
        "ips": each.ips,
    }


def _times(uses: int) -> str:
    return "once" if uses == 1 else f"{uses} times"
