"""What the commands of the CA share: its directory, its passphrase, durations, and telling what went wrong."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ca import authority as authorities
from ca import premises, publishing
from ca.identity_directory import IdentityDirectoryError
from ca.issuance import IssuanceRefused
from ca.ledger import LedgerError
from ca.lifetime import LifetimeError
from ca.occupancy import OccupiedError
from ca.premises import AuthorityError, NoActiveAuthority
from ca.slots import RotationError
from meshproxy.cli import passphrase as passphrases
from meshproxy.cli.terminal import fail, os_error_words
from meshproxy.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ca.sqlite_ledger import SqliteLedger

_REFUSALS: Final = (
    AuthorityError,
    IssuanceRefused,
    LifetimeError,
    IdentityDirectoryError,
    RotationError,
    OccupiedError,
)

directory_option: Final = click.option(
    "--dir",
    "directory",
    required=True,
    envvar="MESHPROXY_CA_DIR",
    type=click.Path(path_type=Path),
    help="The CA's directory.  [env: MESHPROXY_CA_DIR]",
)
passphrase_option: Final = click.option(
    "--passphrase-file", metavar="FILE", help="Open the CA's key with the first line of FILE; - is stdin."
)
no_passphrase_option: Final = click.option(
    "--no-passphrase", is_flag=True, help="Never ask: the CA's key must be unsealed."
)
json_option: Final = click.option("--json", "as_json", is_flag=True, help="Report as JSON.")


def duration(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> timedelta | None:
    """A click callback: `24h` as a timedelta, a usage error otherwise."""
    if text is None:
        return None
    try:
        return timedelta(seconds=parse_duration(text))
    except ValueError as error:
        raise click.BadParameter(f"found {text!a}; expected {error}") from None


def addresses(
    _ctx: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]
) -> tuple[IPv4Address | IPv6Address, ...]:
    """A click callback: addresses as such, a usage error otherwise."""
    try:
        return tuple(ip_address(text) for text in texts)
    except ValueError as error:
        raise click.BadParameter(f"{error}; expected an address such as 10.0.0.7 or ::1") from None


def given_passphrase(directory: Path, source: str | None, *, no_passphrase: bool) -> bytes | None:
    """The passphrase that opens the CA: from `source`, or from whoever sits at the terminal; None when none is needed.

    Ends the command (exit 2) when one is needed and nobody can be asked.
    """
    if source is not None and no_passphrase:
        raise click.UsageError("--passphrase-file and --no-passphrase exclude each other")
    if source is not None:
        return passphrases.from_source(source)
    if not authorities.is_sealed(directory):
        return None
    if no_passphrase or not passphrases.someone_is_there():
        fail(f"the key of the CA in {directory} is sealed; give --passphrase-file FILE (- is standard input)")
    return passphrases.from_terminal(twice=False)


def passphrase_if_given(directory: Path, source: str | None) -> bytes | None:
    """The passphrase from `source`, tried on the CA before anything is changed; None when none is given.

    For commands that can do without: what they record needs no key, and what is signed can be signed later.
    """
    if source is None:
        return None
    passphrase = passphrases.from_source(source)
    with suppress(NoActiveAuthority):
        authorities.open_authority(directory, passphrase=passphrase)
    return passphrase


def publish(directory: Path, ledger: SqliteLedger, passphrase: bytes | None, *, now: datetime) -> None:
    """Publish what changed. If the key cannot be opened, say what waits for it."""
    opened = None
    with suppress(NoActiveAuthority):
        if passphrase is not None or not authorities.is_sealed(directory):
            opened = authorities.open_authority(directory, passphrase=passphrase)
    if opened is not None:
        publishing.publish_revocations(opened, ledger, now=now)
    publishing.publish(directory, ledger, now=now, signer=opened.signer if opened else None)
    if opened is None:
        click.echo(
            "meshproxy: what is signed (ledger.head, deny-list, CRL) was not written anew, for the key is sealed or "
            "none is active; a server does it, or meshproxy ca publish",
            err=True,
        )


def refresh_head(directory: Path, ledger: SqliteLedger, *, now: datetime) -> None:
    """Sign how far the ledger goes, if that takes no passphrase; else whoever opens the key next does it."""
    with suppress(NoActiveAuthority):
        if not authorities.is_sealed(directory):
            opened = authorities.open_authority(directory, passphrase=None)
            with ledger.reading() as view:
                head = view.head()
            publishing.sign_head(directory, opened.trust_domain, head, opened.signer, now=now)


def require_owner(directory: Path) -> None:
    """End the command (exit 2) when root works on the CA of somebody else."""
    if os.geteuid() == 0 and directory.is_dir() and (owner := directory.stat().st_uid) != 0:
        fail(f"{directory} belongs to user {owner}; run this as that user, with sudo -u '#{owner}'")


@contextmanager
def ledger_at(directory: Path) -> Iterator[SqliteLedger]:
    """The ledger of the CA in `directory`, with its errors told.

    Root is sent to the owner: what root writes there, the server that runs as the owner could not read.
    """
    require_owner(directory)
    with told(directory), premises.ledger_of(directory) as ledger:
        yield ledger


@contextmanager
def told(target: Path) -> Iterator[None]:
    """Turn what can go wrong into one sentence: exit 2 when the user can mend the call, 1 when the machine failed."""
    try:
        yield
    except (
        AuthorityError,
        IssuanceRefused,
        LifetimeError,
        IdentityDirectoryError,
        RotationError,
        OccupiedError,
    ) as error:
        fail(str(error))
    except LedgerError as error:
        fail(str(error), exit_code=1)
    except OSError as error:
        fail(f"{target} was not written: {os_error_words(error)}; nothing was left half-written", exit_code=1)
