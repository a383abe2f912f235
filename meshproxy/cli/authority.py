"""`meshproxy ca`: make a certificate authority, issue identities from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from cryptography.hazmat.primitives import hashes

from ca import authority as authorities
from ca import founding, issuing
from ca.lifetime import INTERMEDIATE_TTL, ROOT_TTL, in_words
from ca.profiles import Names
from ca.spiffe_id import TrustDomain, complete
from meshproxy.cli import passphrase as passphrases
from meshproxy.cli.bundles import bundle
from meshproxy.cli.opening import (
    addresses,
    directory_option,
    duration,
    given_passphrase,
    json_option,
    no_passphrase_option,
    passphrase_option,
    told,
)
from meshproxy.cli.records import back_up, examine, list_leaves, log, publish_all, restore
from meshproxy.cli.revocation import revoke
from meshproxy.cli.rotation import rotate
from meshproxy.cli.service import serve
from meshproxy.cli.terminal import Tone, example, fail, paint, print_json
from meshproxy.cli.tokens import token

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from cryptography import x509

    from ca.authority import Authority


@click.group(
    epilog=example(
        "meshproxy ca init --dir ca --trust-domain mesh.local --no-passphrase",
        "meshproxy ca issue /web --dir ca --out web/identity",
    )
)
def ca() -> None:
    """Make a certificate authority and issue identities from it."""


for _command in (serve, bundle, token, revoke, rotate, publish_all, list_leaves, log, back_up, restore, examine):
    ca.add_command(_command)


@ca.command(epilog=example("meshproxy ca init --dir ca --trust-domain mesh.local --passphrase-file ca.pass"))
@click.option(
    "--dir", "directory", required=True, type=click.Path(path_type=Path), help="Where the CA will live; new or empty."
)
@click.option("--trust-domain", required=True, metavar="TD", help="The realm it speaks for, such as mesh.local.")
@click.option(
    "--passphrase-file", metavar="FILE", help="Seal both keys with the first line of FILE; - is standard input."
)
@click.option("--no-passphrase", is_flag=True, help="Leave the keys unsealed; file modes alone protect them.")
@click.option("--name", default="meshproxy", show_default=True, help="Begins the subject of both certificates.")
@click.option("--root-ttl", metavar="DURATION", callback=duration, help="Life of the root.  [default: 3650d]")
@click.option(
    "--intermediate-ttl", metavar="DURATION", callback=duration, help="Life of the intermediate.  [default: 365d]"
)
@json_option
def init(
    *,
    directory: Path,
    trust_domain: str,
    passphrase_file: str | None,
    no_passphrase: bool,
    name: str,
    root_ttl: timedelta | None,
    intermediate_ttl: timedelta | None,
    as_json: bool,
) -> None:
    """Make a root and an intermediate, and print the root's SHA-256."""
    try:
        domain = TrustDomain.parse(trust_domain)
    except ValueError as error:
        fail(str(error))
    with told(directory):
        founding.refuse_occupied(directory)  # before anybody is asked for a passphrase
        made = founding.initialise(
            directory,
            domain,
            passphrase=_new_passphrase(passphrase_file, no_passphrase=no_passphrase),
            now=datetime.now(UTC),
            name=name,
            root_ttl=ROOT_TTL if root_ttl is None else root_ttl,
            intermediate_ttl=INTERMEDIATE_TTL if intermediate_ttl is None else intermediate_ttl,
        )
    if as_json:
        print_json(_init_report(made, sealed=not no_passphrase))
    else:
        _print_init(made, sealed=not no_passphrase)


@ca.command(epilog=example("meshproxy ca issue /web --dir ca --out web/identity --ttl 24h --dns web.internal"))
@click.argument("identity", metavar="/PATH")
@directory_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The identity directory to write or renew.")
@click.option(
    "--ttl", metavar="DURATION", callback=duration, help="How long it lasts, 5m to 7d.  [default: the CA's, 24h]"
)
@click.option("--dns", multiple=True, metavar="NAME", help="A DNS name for peers that know no SPIFFE; repeatable.")
@click.option(
    "--ip", "ips", multiple=True, metavar="ADDRESS", callback=addresses, help="An address, likewise; repeatable."
)
@passphrase_option
@no_passphrase_option
@json_option
def issue(
    *,
    identity: str,
    directory: Path,
    out: Path,
    ttl: timedelta | None,
    dns: tuple[str, ...],
    ips: tuple[IPv4Address | IPv6Address, ...],
    passphrase_file: str | None,
    no_passphrase: bool,
    as_json: bool,
) -> None:
    """Issue one identity: key.pem, chain.pem and bundle.pem in the directory --out, switched all at once.

    /PATH is a path such as /web, or a full ID in the CA's own trust domain. Issuing into the same directory again
    renews the identity in place.
    """
    with told(out):
        opened = authorities.open_authority(
            directory, passphrase=given_passphrase(directory, passphrase_file, no_passphrase=no_passphrase)
        )
        try:
            names = Names(complete(identity, opened.trust_domain), dns, ips)
        except ValueError as error:
            fail(str(error))
        now = datetime.now(UTC).replace(microsecond=0)  # certificates know whole seconds only
        svid, generation = issuing.issue_into(opened, issuing.SvidRequest(names, ttl), out, now=now)
    ends = svid.certificate.not_valid_after_utc
    if as_json:
        print_json(
            {
                "id": str(names.id),
                "serial": f"{svid.certificate.serial_number:x}",
                "sha256": _sha256(svid.certificate),
                "not_before": svid.certificate.not_valid_before_utc,
                "not_after": ends,
                "clamped_by": svid.clamped_by,
                "out": str(out),
                "generation": generation,
            }
        )
    else:
        click.echo(paint(str(names.id), Tone.STRONG))
        click.echo(f"  lasts     {in_words(ends - now)}, until {ends:%Y-%m-%d %H:%M:%S} UTC")
        click.echo(f"  written   {out} (generation {generation}): key.pem, chain.pem, bundle.pem")
    if svid.clamped_by is not None:
        click.echo(f"meshproxy: shorter than asked for: the {svid.clamped_by} expires then; renew the CA", err=True)


def _new_passphrase(source: str | None, *, no_passphrase: bool) -> bytes | None:
    if source is not None and no_passphrase:
        raise click.UsageError("--passphrase-file and --no-passphrase exclude each other")
    if no_passphrase:
        return None
    if source is not None:
        return passphrases.from_source(source)
    if not passphrases.someone_is_there():
        fail("nobody to ask for a passphrase; give --passphrase-file FILE (- is standard input) or --no-passphrase")
    return passphrases.from_terminal(twice=True)


def _init_report(made: Authority, *, sealed: bool) -> dict[str, object]:
    return {
        "trust_domain": made.trust_domain.name,
        "dir": str(made.directory),
        "root_sha256": _sha256(made.root),
        "root_not_after": made.root.not_valid_after_utc,
        "intermediate_sha256": _sha256(made.intermediate),
        "intermediate_not_after": made.intermediate.not_valid_after_utc,
        "sealed": sealed,
    }


def _print_init(made: Authority, *, sealed: bool) -> None:
    click.echo(paint(f"A CA for {made.trust_domain} in {made.directory}", Tone.STRONG))
    for title, certificate in (("root", made.root), ("intermediate", made.intermediate)):
        subject, ends = certificate.subject.rfc4514_string(), certificate.not_valid_after_utc
        click.echo(f"  {title:<14}{subject}, until {ends:%Y-%m-%d}")
    click.echo(
        f"  {'keys':<14}" + ("sealed with the passphrase" if sealed else "not sealed: keep the directory private")
    )
    click.echo(f"  {'root SHA-256':<14}{_sha256(made.root)}")
    click.echo(f"\nNext: meshproxy ca issue /web --dir {made.directory} --out identity")


def _sha256(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()
