"""`meshproxy ca rotate`: replace the CA's own keys while everything runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click
from cryptography import x509

from ca import rotation
from ca.events import What
from ca.lifetime import in_words
from ca.rows import State
from meshproxy.cli.opening import (
    directory_option,
    duration,
    given_passphrase,
    json_option,
    ledger_at,
    no_passphrase_option,
    passphrase_if_given,
    passphrase_option,
    publish,
)
from meshproxy.cli.terminal import Tone, example, paint, print_json, printable

if TYPE_CHECKING:
    from pathlib import Path

    from ca.rotation import Standing
    from ca.rows import AuthorityState

_what: Final = click.option(
    "--what",
    type=click.Choice([each.value for each in What]),
    required=True,
    callback=lambda _c, _p, value: What(value),
)
_slot: Final = click.option("--slot", metavar="NAME", help="Which one, as status lists them.")
_force: Final = click.option("--force", is_flag=True, help="Although somebody is cut off by it: for the bad day.")
_TONES: Final = {
    State.ACTIVE: Tone.GOOD,
    State.PREPARED: Tone.STRONG,
    State.TAINTED: Tone.BAD,
    State.RETIRED: Tone.FAINT,
}


@click.group(
    epilog=example(
        "meshproxy ca rotate prepare --what root --dir ca",
        "meshproxy ca rotate status --dir ca",
        "meshproxy ca rotate activate --what root --dir ca",
        "meshproxy ca rotate retire --what root --dir ca",
    )
)
def rotate() -> None:
    """Replace the root or the intermediate, with overlap: prepare, wait, activate, wait, retire."""


@rotate.command(epilog=example("meshproxy ca rotate prepare --what intermediate --dir ca --passphrase-file ca.pass"))
@directory_option
@_what
@click.option("--root-ttl", metavar="DURATION", callback=duration, help="Life of a new root.  [default: as the last]")
@click.option("--intermediate-ttl", metavar="DURATION", callback=duration, help="Of a new intermediate, likewise.")
@passphrase_option
@no_passphrase_option
def prepare(
    *,
    directory: Path,
    what: What,
    root_ttl: timedelta | None,
    intermediate_ttl: timedelta | None,
    passphrase_file: str | None,
    no_passphrase: bool,
) -> None:
    """Make the next authority; nothing is signed with it yet. A root is trusted by everybody who asks from now on."""
    now = datetime.now(UTC)
    with ledger_at(directory) as ledger:
        passphrase = given_passphrase(directory, passphrase_file, no_passphrase=no_passphrase)
        slot = rotation.prepare(
            directory,
            ledger,
            what,
            passphrase=passphrase,
            now=now,
            root_ttl=root_ttl,
            intermediate_ttl=intermediate_ttl,
        )
        publish(directory, ledger, passphrase, now=now)
    click.echo(f"{paint(f'{what} {slot}', Tone.STRONG)} is prepared")
    if what is What.ROOT:
        click.echo("Next: wait until everybody trusts it (meshproxy ca rotate status), then activate it")
    else:
        click.echo("Next: activate it, at once if you like: every leaf brings its intermediate")


@rotate.command(epilog=example("meshproxy ca rotate activate --what root --dir ca"))
@directory_option
@_what
@_force
@passphrase_option
def activate(*, directory: Path, what: What, force: bool, passphrase_file: str | None) -> None:
    """Sign with the prepared authority from now on.

    A root is refused as long as somebody with a certificate that lives has not loaded it: he could no longer talk to
    those that are certified by it.
    """
    now = datetime.now(UTC)
    with ledger_at(directory) as ledger:
        passphrase = passphrase_if_given(directory, passphrase_file)
        slot, behind = rotation.activate(ledger, what, now=now, force=force)
        publish(directory, ledger, passphrase, now=now)
    click.echo(f"{paint(f'{what} {slot}', Tone.STRONG)} is active")
    if behind:
        click.echo(f"meshproxy: {behind} left behind; they need a new bundle to talk to who renews now", err=True)


@rotate.command(epilog=example("meshproxy ca rotate retire --what root --dir ca"))
@directory_option
@_what
@_slot
@_force
@passphrase_option
def retire(*, directory: Path, what: What, slot: str | None, force: bool, passphrase_file: str | None) -> None:
    """Take an old authority out of use for good, or give up one that is only prepared.

    Refused as long as a certificate of it lives. The keys stay in its directory; remove them when you are sure.
    """
    now = datetime.now(UTC)
    with ledger_at(directory) as ledger:
        passphrase = passphrase_if_given(directory, passphrase_file)
        retired = rotation.retire(ledger, what, slot=slot, now=now, force=force)
        publish(directory, ledger, passphrase, now=now)
    click.echo(f"{paint(f'{what} {retired}', Tone.STRONG)} is retired")


@rotate.command(epilog=example("meshproxy ca rotate taint --what root --slot 0001-3f9a12cd --dir ca"))
@directory_option
@_what
@_slot
@_force
@passphrase_option
def taint(*, directory: Path, what: What, slot: str | None, force: bool, passphrase_file: str | None) -> None:
    """Note that the key of an authority is in wrong hands: whoever it certified is told to renew now.

    It is believed until it is retired: activate another one first, taint this one, retire it as soon as you can.
    """
    now = datetime.now(UTC)
    with ledger_at(directory) as ledger:
        passphrase = passphrase_if_given(directory, passphrase_file)
        tainted = rotation.taint(ledger, what, slot=slot, now=now, force=force)
        publish(directory, ledger, passphrase, now=now)
    click.echo(
        f"{paint(f'{what} {tainted}', Tone.STRONG)} is tainted; retire it as soon as status says nobody needs it"
    )


@rotate.command(epilog=example("meshproxy ca rotate status --dir ca", "meshproxy ca rotate status --dir ca --json"))
@directory_option
@json_option
def status(*, directory: Path, as_json: bool) -> None:
    """Tell how far a rotation is: the authorities, who lags behind, what holds the next step up."""
    now = datetime.now(UTC)
    with ledger_at(directory) as ledger, ledger.reading() as view:
        found = rotation.standing(view, now=now)
    if as_json:
        print_json(
            {
                "bundle_sequence": found.bundle_sequence,
                "authorities": [_portrait(each, found) for each in found.authorities],
                "laggards": found.laggards,
            }
        )
        return
    for each in sorted(found.authorities, key=lambda each: (each.slot, each.what is What.INTERMEDIATE)):
        click.echo(_line(each, found, now))
    if any(each.what is What.ROOT and each.state is State.PREPARED for each in found.authorities):
        _tell_laggards(found, now)


def _line(each: AuthorityState, found: Standing, now: datetime) -> str:
    ends = x509.load_der_x509_certificate(each.certificate).not_valid_after_utc
    state = paint(f"{each.state:<9}", _TONES[each.state]) if each.state in _TONES else f"{each.state:<9}"
    words = f"{each.what:<13}{each.slot}  {state} {'expired' if ends < now else 'until'} {ends:%Y-%m-%d}"
    if each.what is What.ROOT:
        return f"{words}{f', in the bundle since {each.published}' if each.published else ''}"
    last = found.lives_until.get(each.key_id)
    return f"{words}{f', last leaf ends in {in_words(last - now)}' if last else ''}"


def _tell_laggards(found: Standing, now: datetime) -> None:
    if not found.laggards:
        click.echo(f"everybody trusts the prepared root: {paint('it can be activated', Tone.GOOD)}")
        return
    click.echo(f"{len(found.laggards)} would be cut off by activating the prepared root:")
    for each in found.laggards[:20]:
        trusts = f"trusts bundle {each.sequence}" if each.sequence else "has not said what it trusts"
        click.echo(f"  {printable(each.id)}  {trusts}, its certificate ends in {in_words(each.until - now)}")
    if len(found.laggards) > 20:
        click.echo(f"  and {len(found.laggards) - 20} more; --json lists all")


def _portrait(each: AuthorityState, found: Standing) -> dict[str, object]:
    certificate = x509.load_der_x509_certificate(each.certificate)
    return {
        "what": each.what,
        "slot": each.slot,
        "state": each.state,
        "key_id": each.key_id,
        "root_key_id": each.root_key_id,
        "not_after": certificate.not_valid_after_utc,
        "published": each.published,
        "last_leaf_ends": found.lives_until.get(each.key_id),
    }
