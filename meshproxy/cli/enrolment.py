"""`meshproxy enroll` and `meshproxy renew`: an identity from a CA on the network, once and again."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import trio

from meshproxy.cli.terminal import Tone, example, fail, paint, print_json, wants_colour
from meshproxy.enroll.approach import Approach
from meshproxy.enroll.client import CaClient
from meshproxy.enroll.errand import Errands
from meshproxy.enroll.faults import EnrolmentError, Unwritable
from meshproxy.enroll.holding import Holding
from meshproxy.enroll.plan import Left, is_due
from meshproxy.enroll.remedies import remedy_for
from meshproxy.enroll.token_file import TokenFileError, parse_token, read_token_file
from meshproxy.runtime.telling import wall_clock
from meshproxy.settings.schema import IdentitySettings
from meshproxy.units import format_duration, parse_duration
from meshproxy.wire.address import TcpAddress, parse_address
from meshproxy.wire.dial import Resolver
from meshproxy.wire.sweep import Sweeper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ca.tokens import JoinToken
    from meshproxy.enroll.errand import Taken
    from meshproxy.enroll.holding import Held

_SHARE: Final = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,3})?)%")
_MOST_TOKEN: Final = 8192


def _addresses(_ctx: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[TcpAddress, ...]:
    found = []
    for text in texts:
        try:
            address = parse_address(text)
        except ValueError as error:
            raise click.BadParameter(f"found {text!a}; expected {error}") from None
        if not isinstance(address, TcpAddress) or not address.port:
            raise click.BadParameter(f"found {text!a}; expected host:port or [v6]:port, with a port from 1 to 65535")
        found.append(address)
    return tuple(found)


def _left(_ctx: click.Context, _parameter: click.Parameter, text: str) -> Left:
    if match := _SHARE.fullmatch(text):
        return Left(float(match[1]) / 100)
    try:
        return Left(seconds=parse_duration(text))
    except ValueError:
        raise click.BadParameter(
            f"found {text!a}; expected a share of its life or a duration, as in 50% or 8h"
        ) from None


def _command(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    try:
        parts = tuple(shlex.split(text)) if text is not None else ()
    except ValueError as error:
        raise click.BadParameter(f"{str(error).lower()}; expected a command as a shell reads it") from None
    if text is not None and not parts:
        raise click.BadParameter("it is empty; expected a command")
    return parts


_ca: Final = click.option(
    "--ca", "at", multiple=True, metavar="HOST:PORT", callback=_addresses, help="Where the CA is; repeatable."
)
_json: Final = click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
_passphrase: Final = click.option(
    "--passphrase-file", type=click.Path(path_type=Path), metavar="FILE", help="Opens and seals key.pem."
)


@click.command(
    epilog=example(
        "meshproxy enroll --token-file web.token --out web/identity",
        "ssh ca meshproxy ca token create /web | meshproxy enroll --token-stdin --out identity",
    )
)
@click.option("--token-file", type=click.Path(path_type=Path), metavar="F", help="Read the token from F (0600).")
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input.")
@click.option("--token", "in_argv", metavar="T", help="The token itself: others on this machine can read it there.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The identity directory.")
@_ca
@_passphrase
@_json
def enroll(
    *,
    token_file: Path | None,
    token_stdin: bool,
    in_argv: str | None,
    out: Path,
    at: tuple[TcpAddress, ...],
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Get an identity from a CA with a join token, into DIR.

    The key is made here and never leaves this machine. The token says where the CA is, and by which roots it is known;
    its secret is sent to nobody else. Run it again when it was interrupted: the same token gives the same certificate.
    Exits 0 when the identity is there, 1 when the CA refuses or cannot be reached, 2 for a token that cannot be read.
    """
    token = _token(token_file, in_argv, from_stdin=token_stdin)
    taken = _told(
        out, passphrase_file, lambda errands: errands.enrol(token, at), at=at or _of(token), token_file=token_file
    )
    if as_json:
        print_json(_portrait(taken.held, out) | {"enrolled": not taken.elsewhere, "again": taken.again})
        return
    leaf = taken.held.leaf
    word = "enrolled already" if taken.elsewhere else "enrolled"
    click.echo(f"{paint(word, Tone.GOOD)} as {leaf.id} until {leaf.not_after:%Y-%m-%dT%H:%M:%SZ}, in {out}")
    _warn_of(taken)


@click.command(
    epilog=example(
        "meshproxy renew --dir web/identity",
        "meshproxy renew --dir /etc/nginx/identity --daemon --exec 'nginx -s reload'",
        "meshproxy renew --dir identity --expires-in 8h --exec 'systemctl reload postgresql'",
    )
)
@click.option("--dir", "directory", required=True, type=click.Path(path_type=Path), help="The identity directory.")
@_ca
@click.option("--force", is_flag=True, help="Renew now, due or not.")
@click.option("--daemon", is_flag=True, help="Stay, and renew for ever; in the foreground.")
@click.option(
    "--expires-in",
    "left",
    default="50%",
    show_default=True,
    metavar="SHARE|DURATION",
    callback=_left,
    help="Renew when no more than this is left.",
)
@click.option("--exec", "command", metavar="CMD", callback=_command, help="Run CMD (no shell) after each new identity.")
@click.option(
    "--token-file", type=click.Path(path_type=Path), metavar="F", help="With --daemon: enrol by the token in F."
)
@_passphrase
@_json
def renew(
    *,
    directory: Path,
    at: tuple[TcpAddress, ...],
    force: bool,
    daemon: bool,
    left: Left,
    command: tuple[str, ...],
    token_file: Path | None,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Renew the identity in DIR at the CA that gave it, with a new key; for programs that cannot do it themselves.

    Without --daemon once, if it is due. With --daemon for ever, at half of its life, and whenever the CA asks for it;
    the log goes to stderr, and what fails is told and tried again. Exits 0 when it was renewed or is not due, 1 when
    that failed, or CMD did, 2 when there is no identity to be renewed.
    """
    if daemon:
        if force or as_json:
            raise click.UsageError("--force and --json are for renewing once, without --daemon")
        _stay(IdentitySettings(directory, passphrase_file, ca=at, token_file=token_file), left, command)
        return
    if token_file is not None:
        raise click.UsageError("--token-file is for --daemon; to enrol once: meshproxy enroll")
    held = _held(directory, passphrase_file)
    if not force and not is_due(held.life, left, now=datetime.now(UTC)):
        if as_json:
            print_json(_portrait(held, directory) | {"renewed": False})
        else:
            remains = format_duration(float(int((held.leaf.not_after - datetime.now(UTC)).total_seconds())))
            click.echo(f"not due: {held.leaf.id} is valid for another {remains}; --force renews it now")
        return
    taken = _told(directory, passphrase_file, lambda errands: errands.renew(held.leaf.fingerprint, at), at=at)
    fault = ""
    if command:
        from meshproxy.runtime.renewing import run_command  # noqa: PLC0415 - most have none

        fault = trio.run(run_command, command)
    if as_json:
        print_json(_portrait(taken.held, directory) | {"renewed": True, "again": taken.again, "command_failed": fault})
    else:
        leaf = taken.held.leaf
        click.echo(f"{paint('renewed', Tone.GOOD)} {leaf.id} until {leaf.not_after:%Y-%m-%dT%H:%M:%SZ}, in {directory}")
        _warn_of(taken)
    if fault:
        fail(f"the identity is renewed, but {shlex.join(command)}: {fault}; run it again", exit_code=1)


def _stay(identity: IdentitySettings, left: Left, command: tuple[str, ...]) -> None:
    from meshproxy.runtime import process  # noqa: PLC0415 - renewing once needs no log
    from meshproxy.runtime.renewing import RenewalPlan  # noqa: PLC0415 - as above
    from meshproxy.telemetry.events import LogStyle  # noqa: PLC0415 - as above

    if identity.token_file is None:
        _held(identity.dir, identity.passphrase_file)  # without one there is nothing to wait for
        if not identity.ca and not Holding(identity.dir).enrolment().parsed:
            fail(f"nobody said where the CA of {identity.dir} is; name it with --ca HOST:PORT")
    watched = sys.stderr.isatty()
    look = process.LogLook(LogStyle.CONSOLE if watched else LogStyle.JSON, colors=wants_colour(sys.stderr))
    process.renew_for_ever(RenewalPlan(identity, left, command), look)


def _token(file: Path | None, in_argv: str | None, *, from_stdin: bool) -> JoinToken:
    if (file is not None) + (in_argv is not None) + from_stdin != 1:
        raise click.UsageError("name the token once: --token-file F, --token-stdin or --token T")
    try:
        if file is not None:
            return read_token_file(file)
        if in_argv is None:
            return parse_token(sys.stdin.buffer.read(_MOST_TOKEN), "standard input")
        click.echo(
            "meshproxy: warning: a token on the command line can be read by everybody on this machine, and stays in "
            "the history of the shell; use --token-file or --token-stdin",
            err=True,
        )
        return parse_token(in_argv.encode("utf-8", "replace"), "--token")
    except TokenFileError as error:
        fail(str(error))


def _held(directory: Path, passphrase_file: Path | None) -> Held:
    try:
        held = Holding(directory, passphrase_file).look(now=datetime.now(UTC))
    except Unwritable as error:
        known = Holding(directory, passphrase_file).enrolment().parsed
        fail(f"{error}\n  remedy: {remedy_for(error, None, known, None)}")
    if held is None:
        fail(
            f"there is no identity in {directory}; get one with: meshproxy enroll --token-file TOKEN --out {directory}"
        )
    return held


def _told(
    directory: Path,
    passphrase_file: Path | None,
    errand: Callable[[Errands], Awaitable[Taken]],
    *,
    at: tuple[TcpAddress, ...],
    token_file: Path | None = None,
) -> Taken:
    """Go on one errand; ends the command (exit 1) with what went wrong, and what to do."""

    async def go() -> Taken | EnrolmentError:
        sweeper = Sweeper()
        client = CaClient(Approach(Resolver(), sweeper, wall_clock))
        outcome: Taken | EnrolmentError
        async with trio.open_nursery() as nursery:
            await nursery.start(sweeper.run)
            try:
                outcome = await errand(Errands(Holding(directory, passphrase_file), client, wall_clock))
            except EnrolmentError as error:  # out of the nursery it would come in a group
                outcome = error
            nursery.cancel_scope.cancel()
        return outcome

    outcome = trio.run(go)
    if isinstance(outcome, EnrolmentError):
        held = None
        with contextlib.suppress(Unwritable):
            held = Holding(directory, passphrase_file).look(now=datetime.now(UTC))
        known = at or Holding(directory, passphrase_file).enrolment().parsed
        remedy = remedy_for(outcome, held, known, token_file)
        fail(f"{outcome}\n  remedy: {remedy}", exit_code=1)
    return outcome


def _warn_of(taken: Taken) -> None:
    if taken.clamped_by:
        click.echo(f"meshproxy: warning: it ends with the {taken.clamped_by}, sooner than it was to", err=True)
    if taken.doubt:
        click.echo(f"meshproxy: warning: {taken.doubt}; what was believed before is kept", err=True)


def _portrait(held: Held, directory: Path) -> dict[str, object]:
    leaf = held.leaf
    return {
        "id": str(leaf.id),
        "serial": f"{leaf.serial:x}",
        "not_before": leaf.not_before,
        "not_after": leaf.not_after,
        "directory": str(directory),
        "bundle": None if held.believed is None else held.believed.sequence,
    }


def _of(token: JoinToken) -> tuple[TcpAddress, ...]:
    found = (parse_address(each) for each in token.addresses)
    return tuple(each for each in found if isinstance(each, TcpAddress))
