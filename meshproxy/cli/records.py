"""`meshproxy ca list`, `log`, `backup`, `restore`, `doctor`: what the CA knows, keeps and suffers from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ca import backup, doctor, founding, ledger_head, listing, premises, restoring, slots
from ca.audit import audit
from ca.backup import BackupError, Sealing
from ca.inspection import Weight
from ca.lifetime import in_words
from ca.listing import Fate
from ca.spiffe_id import complete
from meshproxy.cli import passphrase as passphrases
from meshproxy.cli.opening import (
    directory_option,
    duration,
    given_passphrase,
    json_option,
    ledger_at,
    no_passphrase_option,
    passphrase_option,
    publish,
    told,
)
from meshproxy.cli.terminal import Tone, example, fail, os_error_words, paint, print_json, printable

if TYPE_CHECKING:
    from ca.listing import Listed

_TONES = {
    Fate.VALID: Tone.GOOD,
    Fate.REVOKED: Tone.BAD,
    Fate.SUSPECT: Tone.BAD,
    Fate.RETIRED: Tone.BAD,
    Fate.EXPIRED: Tone.FAINT,
}


@click.command("list", epilog=example("meshproxy ca list --dir ca", "meshproxy ca list --expiring 24h --dir ca"))
@directory_option
@click.option("--id", "identity", metavar="/PATH", help="Only of this identity.")
@click.option("--expiring", metavar="DURATION", callback=duration, help="Only what ends so soon without a successor.")
@click.option("--revoked", is_flag=True, help="Only what is revoked.")
@click.option("--all", "everything", is_flag=True, help="What has expired as well.")
@json_option
def list_leaves(
    *,
    directory: Path,
    identity: str | None,
    expiring: timedelta | None,
    revoked: bool,
    everything: bool,
    as_json: bool,
) -> None:
    """List the certificates that live, oldest first."""
    now = datetime.now(UTC)
    with ledger_at(directory) as ledger, ledger.reading() as view:
        home = premises.read_configuration(directory).trust_domain
        try:
            named = None if identity is None else str(complete(identity, home))
        except ValueError as error:
            fail(str(error))
        found = list(listing.listed(view, now=now, id=named, within=expiring, revoked=revoked, expired=everything))
    if as_json:
        print_json([_portrait(each) for each in found])
        return
    for each in found:
        left = each.leaf.not_after - now
        words = f"{in_words(left)} left" if left > timedelta(0) else f"ended {each.leaf.not_after:%Y-%m-%d}"
        fate = f"{each.fate:<8}"
        click.echo(
            f"{each.leaf.serial:>40}  {paint(fate, _TONES[each.fate]) if each.fate in _TONES else fate}  "
            f"{words:<16}  {printable(each.leaf.id)}"
        )
    if not found:
        click.echo("no certificates", err=True)


@click.group(epilog=example("meshproxy ca log verify --dir ca", "meshproxy ca log show --dir ca | tail -1"))
def log() -> None:
    """Look at the ledger: everything this CA ever did."""


@log.command(epilog=example("meshproxy ca log verify --dir ca --head /elsewhere/ledger.head"))
@directory_option
@click.option("--head", type=click.Path(path_type=Path), help="A signed head kept elsewhere, instead of the CA's own.")
@json_option
def verify(*, directory: Path, head: Path | None, as_json: bool) -> None:
    """Walk the ledger from its beginning: every event in its place, the state what they add up to, its end signed.

    Exits 0 when it is sound, 1 when it is not. A head kept on another machine also shows that the end was cut off.
    """
    with ledger_at(directory) as ledger, ledger.reading() as view:
        faults = list(audit(view))
        reached = view.head()
        path = head or directory / premises.HEAD
        try:
            document = path.read_bytes()
        except OSError as error:
            fail(f"{path} cannot be read: {os_error_words(error)}")
        domain = premises.read_configuration(directory).trust_domain.name
        seal = ledger_head.judge(document, view, trust_domain=domain, roots=slots.every_root(view))
    faults += seal.faults
    if as_json:
        print_json({"sound": not faults, "events": reached.seq, "hash": reached.hash.hex(), "faults": faults})
    elif faults:
        for fault in faults:
            click.echo(f"{paint('wrong', Tone.BAD)}: {printable(fault)}")
    else:
        uncovered = f", {seal.uncovered} of them not covered by the signed head yet" if seal.uncovered else ""
        click.echo(f"{paint('sound', Tone.GOOD)}: {reached.seq} events{uncovered}, the last is {reached.hash.hex()}")
    raise SystemExit(1 if faults else 0)


@log.command(epilog=example("meshproxy ca log show --after 100 --dir ca"))
@directory_option
@click.option("--after", default=0, metavar="N", help="Only events behind this number.")
def show(*, directory: Path, after: int) -> None:
    """Print the events as they are kept: JSON, one to a line, with their number and hash."""
    with ledger_at(directory) as ledger, ledger.reading() as view:
        for link in view.links():
            if link.seq > after:
                event = msgspec.Raw(link.body)
                line = msgspec.json.encode({"seq": link.seq, "hash": link.hash.hex(), "event": event})
                click.echo(line.decode())


@log.command(epilog=example("meshproxy ca log rebuild --dir ca"))
@directory_option
def rebuild(*, directory: Path) -> None:
    """Make the state anew from the events alone: the remedy when verify says that it is not what they add up to."""
    with ledger_at(directory) as ledger:
        ledger.rebuild()
    click.echo("rebuilt; see meshproxy ca log verify")


@click.command("backup", epilog=example("meshproxy ca backup --out ca-2026-11-22.tar --dir ca"))
@directory_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to write (0600).")
@click.option("--passphrase-file", metavar="FILE", help="Seal keys in the backup that are not sealed here.")
@click.option("--unsealed", is_flag=True, help="Leave such keys as they are: then the file is the CA.")
def back_up(*, directory: Path, out: Path, passphrase_file: str | None, unsealed: bool) -> None:
    """Write settings, keys and ledger into one file, while the CA works. Keep it where the CA is not."""
    if passphrase_file is not None and unsealed:
        raise click.UsageError("--passphrase-file and --unsealed exclude each other")
    sealing = Sealing(None) if unsealed else None
    if passphrase_file is not None:
        sealing = Sealing(passphrases.from_source(passphrase_file))
    with told(out), ledger_at(directory) as ledger:
        head = backup.pack(directory, ledger, out, now=datetime.now(UTC), sealing=sealing)
    click.echo(f"{paint(str(out), Tone.STRONG)}: {head.seq} events, the last is {head.hash.hex()}")


@click.command(
    epilog=example("meshproxy ca restore ca-2026-11-22.tar --deny-list web/denylist.json --dir ca"),
)
@click.argument("archive", type=click.Path(path_type=Path))
@directory_option
@click.option(
    "--deny-list",
    "deny_list_file",
    type=click.Path(path_type=Path),
    help="The last one published: trust/denylist.json of the old directory, or any sidecar's copy.",
)
@click.option("--without-deny-list", is_flag=True, help="There is none: what was revoked since is forgotten here.")
@click.option("--passphrase-file", metavar="FILE", help="Open the CA's key and publish at once.")
def restore(
    *,
    archive: Path,
    directory: Path,
    deny_list_file: Path | None,
    without_deny_list: bool,
    passphrase_file: str | None,
) -> None:
    """Bring a CA back from a backup into DIR, which must be new or empty.

    What was revoked since the backup is read from the last deny-list and revoked again. Certificates issued since are
    unknown and will not be renewed, and tokens that were open are ended: their holders need new ones.
    """
    if (deny_list_file is None) is not without_deny_list:
        raise click.UsageError(
            "give --deny-list FILE, so that what was revoked since the backup stays revoked, or --without-deny-list"
        )
    now = datetime.now(UTC)
    try:
        last = None if deny_list_file is None else deny_list_file.read_bytes()
    except OSError as error:
        fail(f"{deny_list_file} cannot be read: {os_error_words(error)}")
    passphrase = None if passphrase_file is None else passphrases.from_source(passphrase_file)
    with told(directory):
        founding.refuse_occupied(directory)
        try:
            done = restoring.restore(archive, directory, last_deny_list=last, now=now)
        except BackupError as error:
            fail(str(error))
    with ledger_at(directory) as ledger:
        publish(directory, ledger, passphrase, now=now)
    taken = f"{done.manifest.taken:%Y-%m-%d %H:%M:%S} UTC"
    click.echo(paint(f"The CA of {done.manifest.trust_domain}, as it was at {taken}, in {directory}", Tone.STRONG))
    click.echo(f"  revoked again  {done.revoked_again}")
    click.echo(f"  tokens ended   {done.tokens_ended}")
    if without_deny_list:
        click.echo(f"meshproxy: what was revoked after {taken} is no longer revoked here; revoke it again", err=True)
    if not done.signs:
        click.echo("meshproxy: its intermediate was retired since; see meshproxy ca rotate prepare", err=True)
    click.echo(f"Certificates issued after {taken} are unknown and are not renewed: give their holders new tokens")


@click.command("publish", epilog=example("meshproxy ca publish --passphrase-file ca.pass --dir ca"))
@directory_option
@passphrase_option
@no_passphrase_option
def publish_all(*, directory: Path, passphrase_file: str | None, no_passphrase: bool) -> None:
    """Write trust bundle, deny-list, CRL and the signed head of the ledger anew, as far as they are not current.

    A server does it by itself, and so does every command that changes something and has the key open. Without a server,
    call it from cron: a deny-list is good for an hour, a CRL for a day.
    """
    now = datetime.now(UTC)
    with ledger_at(directory) as ledger:
        passphrase = given_passphrase(directory, passphrase_file, no_passphrase=no_passphrase)
        publish(directory, ledger, passphrase, now=now)
    click.echo(f"published in {directory / premises.TRUST}")


@click.command("doctor", epilog=example("meshproxy ca doctor --dir ca"))
@directory_option
@json_option
def examine(*, directory: Path, as_json: bool) -> None:
    """Look for what is wrong, or soon will be: modes, owners, expiry, clock, chain, ledger, what is published.

    Nothing is changed. Exits 0 when nothing is wrong (there may be warnings), else 1.
    """
    with told(directory):
        found = doctor.examine(directory, now=datetime.now(UTC))
    wrong = any(each.weight is Weight.WRONG for each in found.findings)
    if as_json:
        print_json({"sound": not wrong, "served_by": found.occupant, "findings": found.findings})
    else:
        for each in found.findings:
            tone = Tone.BAD if each.weight is Weight.WRONG else Tone.WARNING
            click.echo(f"{paint(each.weight, tone)}: {printable(each.text)}")
        if not found.findings:
            click.echo(f"{paint('sound', Tone.GOOD)}: nothing to say about the CA in {directory}")
        if found.occupant:
            click.echo(f"it is served by {found.occupant}")
    raise SystemExit(1 if wrong else 0)


def _portrait(each: Listed) -> dict[str, object]:
    leaf = each.leaf
    return {
        "id": leaf.id,
        "serial": leaf.serial,
        "issuer": leaf.issuer,
        "fate": each.fate,
        "reason": each.reason,
        "not_before": leaf.not_before,
        "not_after": leaf.not_after,
        "lineage": leaf.lineage,
        "generation": leaf.generation,
        "sha256": leaf.fingerprint,
        "spki": leaf.spki,
    }
