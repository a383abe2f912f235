"""`meshproxy ca bundle`: our roots for others, and theirs for us."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca import federation, premises, publishing, spiffe_bundle, storage
from ca.federation import FederationError, Partner, Profile
from ca.spiffe_id import TrustDomain
from meshproxy.cli.opening import directory_option, json_option, ledger_at, told
from meshproxy.cli.terminal import Tone, example, fail, os_error_words, paint, print_json

if TYPE_CHECKING:
    from ca.federation import Endpoint

_FILES = {"pem": premises.BUNDLE_PEM, "spiffe": premises.BUNDLE_JSON}


def _domain(_ctx: click.Context, _parameter: click.Parameter, text: str) -> TrustDomain:
    try:
        return TrustDomain.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_form = click.option("--format", "form", type=click.Choice(list(_FILES)), default="pem", show_default=True)


@click.group(
    epilog=example(
        "meshproxy ca bundle show --dir ca --format spiffe",
        "meshproxy ca bundle federate set partner.org --file partner.json --dir ca",
    )
)
def bundle() -> None:
    """Show the roots of this trust domain; know those of others."""


@bundle.command(epilog=example("meshproxy ca bundle show --format spiffe --dir ca"))
@directory_option
@_form
def show(*, directory: Path, form: str) -> None:
    """Print the trust bundle: as PEM, or as the JWK Set that SPIFFE calls a bundle."""
    click.echo(_own(directory, form).decode(), nl=False)


@bundle.command(epilog=example("meshproxy ca bundle export --format spiffe --out mesh.json --dir ca"))
@directory_option
@_form
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to write.")
def export(*, directory: Path, form: str, out: Path) -> None:
    """Write the trust bundle into a file. Who is asked over the network gets the same at /v1/bundle."""
    content = _own(directory, form)
    with told(out):
        storage.write_file(out, content, mode=0o644)
    click.echo(f"meshproxy: written to {out}", err=True)


@bundle.group(epilog=example("meshproxy ca bundle federate list --dir ca"))
def federate() -> None:
    """Know the roots of other trust domains, apart from our own; allow-lists can then name their identities."""


@federate.command(
    "set",
    epilog=example(
        "meshproxy ca bundle federate set partner.org --file partner.json --dir ca",
        "meshproxy ca bundle federate set partner.org --url https://partner.org/bundle --profile https_web --dir ca",
        "meshproxy ca bundle federate set partner.org --file partner.json --url https://ca.partner.org:8440/v1/bundle "
        "--profile https_spiffe --endpoint-id spiffe://partner.org/meshproxy/ca --dir ca",
    ),
)
@click.argument("domain", metavar="TRUST_DOMAIN", callback=_domain)
@directory_option
@click.option("--file", type=click.Path(path_type=Path), help="Their bundle, as SPIFFE writes it (JWK Set).")
@click.option("--url", help="Their bundle endpoint; the server asks it again, as often as the bundle says.")
@click.option("--profile", type=click.Choice([each.value for each in Profile]), help="How the endpoint proves itself.")
@click.option("--endpoint-id", default="", metavar="ID", help="Its SPIFFE ID, with https_spiffe.")
def set_(
    *, domain: TrustDomain, directory: Path, file: Path | None, url: str | None, profile: str | None, endpoint_id: str
) -> None:
    """Take the bundle of another trust domain from a file or from its endpoint.

    With https_web the endpoint is believed as a web site is. With https_spiffe it is judged by the bundle that is known
    already, so the first one comes from --file.
    """
    if file is None and url is None:
        raise click.UsageError("give --file FILE, --url URL, or both")
    if (url is None) != (profile is None):
        raise click.UsageError("--url and --profile belong together")
    try:
        with told(directory):
            home = premises.read_configuration(directory).trust_domain
            endpoint = federation.endpoint(url, Profile(profile), endpoint_id, of=domain) if url and profile else None
            federation.require_foreign(domain, home)  # before anybody is asked
            text = _content(file) if file is not None else _fetch(directory, domain, endpoint)
            partner = Partner(domain.name, text, datetime.now(UTC), endpoint)
            found = federation.put(directory, partner, home=home)
    except FederationError as error:
        fail(str(error))
    number = "" if found.sequence is None else f", number {found.sequence}"
    count = len(found.roots)
    click.echo(f"{paint(domain.name, Tone.STRONG)}: {count} {'root' if count == 1 else 'roots'}{number}")
    if endpoint is None:
        click.echo("meshproxy: nobody asks for the next one: set it again when they change their roots", err=True)


@federate.command("list", epilog=example("meshproxy ca bundle federate list --dir ca"))
@directory_option
@json_option
def list_(*, directory: Path, as_json: bool) -> None:
    """List the trust domains whose bundles are known."""
    with told(directory):
        premises.require(directory)
        found = federation.every(directory)
    if as_json:
        print_json([_portrait(each) for each in found])
        return
    for each in found:
        where = f"{each.endpoint.url} ({each.endpoint.profile})" if each.endpoint else "set by hand"
        click.echo(f"{paint(each.trust_domain, Tone.STRONG)}  {_size(each)}, of {each.at:%Y-%m-%d %H:%M} UTC, {where}")
    if not found:
        click.echo("no federated trust domains", err=True)


@federate.command(epilog=example("meshproxy ca bundle federate delete partner.org --dir ca"))
@click.argument("domain", metavar="TRUST_DOMAIN", callback=_domain)
@directory_option
def delete(*, domain: TrustDomain, directory: Path) -> None:
    """Forget the bundle of a trust domain: nobody of it is believed any more, as soon as the sidecars have heard."""
    with told(directory):
        premises.require(directory)
        if not federation.delete(directory, domain):
            fail(f"the bundle of {domain} is not known here; see meshproxy ca bundle federate list")
    click.echo(f"{domain} is forgotten")


def _own(directory: Path, form: str) -> bytes:
    with ledger_at(directory) as ledger, ledger.reading() as view:
        return publishing.trust_files(premises.read_configuration(directory), view)[_FILES[form]]


def _content(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        words = os_error_words(error) if isinstance(error, OSError) else "it is no text"
        raise FederationError(f"{file} cannot be read: {words}") from None


def _fetch(directory: Path, domain: TrustDomain, endpoint: Endpoint | None) -> str:
    import trio  # noqa: PLC0415 - a file needs no network

    from meshproxy.enroll.partners import fetch_once  # noqa: PLC0415 - as above

    assert endpoint is not None, "one of the two was given"
    known = federation.get(directory, domain)
    return trio.run(fetch_once, endpoint, domain, known.bundle if known else None, partial(datetime.now, UTC))


def _portrait(each: Partner) -> dict[str, object]:
    found = _bundle(each)
    return {
        "trust_domain": each.trust_domain,
        "roots": len(found.roots),
        "sequence": found.sequence,
        "refresh_hint": found.refresh_hint,
        "at": each.at,
        "endpoint": each.endpoint,
    }


def _size(each: Partner) -> str:
    found = _bundle(each)
    count = len(found.roots)
    return f"{count} {'root' if count == 1 else 'roots'}, number {found.sequence}"


def _bundle(each: Partner) -> spiffe_bundle.SpiffeBundle:
    return spiffe_bundle.read(each.bundle.encode(), home=TrustDomain.parse(each.trust_domain))
