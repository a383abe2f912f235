"""`meshproxy ca revoke`: take back what was certified."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca import premises, revocation
from ca.events import Reason
from ca.revocation import RevocationError
from ca.spiffe_id import complete
from ca.svid import read_certificate, read_chain
from meshproxy.cli.opening import (
    directory_option,
    json_option,
    ledger_at,
    passphrase_if_given,
    passphrase_option,
    publish,
)
from meshproxy.cli.terminal import Tone, example, fail, os_error_words, paint, print_json, printable

if TYPE_CHECKING:
    from cryptography import x509

    from ca.configuration import Configuration
    from ca.ledger import Transaction, View
    from ca.revocation import Revoked
    from ca.spiffe_id import SpiffeId


@click.command(
    epilog=example(
        "meshproxy ca revoke --id /web --reason keyCompromise --dir ca",
        "meshproxy ca revoke 3a51fa09361eee149e67bd74be457b3c2d4b3714 --dir ca",
        "meshproxy ca revoke --cert web/chain.pem --dir ca",
    )
)
@click.argument("serial", required=False)
@directory_option
@click.option("--cert", type=click.Path(path_type=Path), help="The certificate in a file; the ledger need not know it.")
@click.option("--id", "identity", metavar="/PATH", help="Every certificate of this identity so far, and its tokens.")
@click.option("--spki", metavar="SHA256", help="Every certificate of this key, and the key itself for good.")
@click.option(
    "--reason",
    type=click.Choice([each.value for each in Reason]),
    default=Reason.UNSPECIFIED.value,
    show_default=True,
    help="For the record and the CRL.",
)
@passphrase_option
@json_option
def revoke(
    *,
    serial: str | None,
    directory: Path,
    cert: Path | None,
    identity: str | None,
    spki: str | None,
    reason: str,
    passphrase_file: str | None,
    as_json: bool,
) -> None:
    """Take back a certificate, all of an identity, or all of a key; it cannot be undone.

    Renewal is refused from now on, and deny-list and CRL say so; who follows the deny-list closes open connections too.
    SERIAL is as meshproxy ca list shows it.
    """
    if sum(each is not None for each in (serial, cert, identity, spki)) != 1:
        raise click.UsageError("give exactly one of SERIAL, --cert, --id and --spki")
    presented = _read_certificate(cert) if cert is not None else None
    now = datetime.now(UTC)
    with ledger_at(directory) as ledger:
        passphrase = passphrase_if_given(directory, passphrase_file)
        configured = premises.read_configuration(directory)
        try:
            with ledger.writing() as transaction:
                done = _revoke(
                    transaction,
                    configured,
                    serial=serial,
                    certificate=presented,
                    identity=identity,
                    spki=spki,
                    reason=Reason(reason),
                    now=now,
                )
                revocation.require_room(transaction, now=now)
                stranger = _stranger(transaction, configured, identity)
        except (RevocationError, ValueError) as error:
            fail(str(error))
        publish(directory, ledger, passphrase, now=now)
    if stranger is not None:
        click.echo(
            f"meshproxy: this CA has certified nothing as {stranger}; it is revoked all the same, but see whether the "
            "name is right: meshproxy ca list",
            err=True,
        )
    if as_json:
        leaves = [{"id": each.id, "serial": each.serial, "not_after": each.not_after} for each in done.leaves]
        print_json({"certificates": leaves, "tokens": [each.token for each in done.tokens]})
        return
    count = len(done.leaves)
    click.echo(paint(f"revoked: {count} living {'certificate' if count == 1 else 'certificates'}", Tone.STRONG))
    for leaf in done.leaves[:20]:
        click.echo(f"  {printable(leaf.id)}  serial {leaf.serial}, until {leaf.not_after:%Y-%m-%d %H:%M} UTC")
    if count > 20:
        click.echo(f"  and {count - 20} more; --json lists all")
    for token in done.tokens:
        click.echo(f"  token {token.token} for it is over")


def _revoke(
    transaction: Transaction,
    configured: Configuration,
    *,
    serial: str | None,
    certificate: x509.Certificate | None,
    identity: str | None,
    spki: str | None,
    reason: Reason,
    now: datetime,
) -> Revoked:
    uid, longest = os.getuid(), configured.limits.maximum
    if serial is not None:
        return revocation.revoke_serial(transaction, serial, reason=reason, now=now, uid=uid)
    if certificate is not None:
        return revocation.revoke_certificate(transaction, certificate, reason=reason, now=now, uid=uid)
    if spki is not None:
        return revocation.revoke_key(transaction, spki, reason=reason, now=now, longest=longest, uid=uid)
    named = complete(identity or "", configured.trust_domain)
    if named.trust_domain != configured.trust_domain:
        fail(f"{named} is of another trust domain; this CA speaks for {configured.trust_domain} only")
    return revocation.revoke_id(transaction, str(named), reason=reason, now=now, longest=longest, uid=uid)


def _stranger(view: View, configured: Configuration, identity: str | None) -> SpiffeId | None:
    """The identity that was named, if the ledger has never heard of it: a slip of the pen leaves a thief in."""
    if identity is None:
        return None
    named = complete(identity, configured.trust_domain)
    return None if any(True for _ in view.leaves(id=str(named))) else named


def _read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a file, PEM or DER."""
    try:
        content = path.read_bytes()
        return read_chain(content)[0] if b"-----BEGIN" in content else read_certificate(content)
    except ValueError as error:
        fail(f"{path} cannot be used: {error}")
    except OSError as error:
        fail(f"{path} cannot be read: {os_error_words(error)}")
