"""`meshproxy policy who-can` and `what-can`: the two questions of an auditor, asked of a whole mesh's allow-lists."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from meshproxy.cli.policy.lists import caller_and_home, document_or_fail, lists_in, say, trust_domain_option, wrapped
from meshproxy.cli.terminal import Tone, example, fail, paint, print_json, printable
from meshproxy.policy.estate import Access, accesses, file_of, service_of, what_can, who_can
from meshproxy.policy.match import PathPattern

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshproxy.policy.document import Document

_WIDEST_MARGIN: Final = 30  # columns of a subject beside which something is said

directory_option: Final = click.option(
    "--policies",
    "directory",
    default="policies",
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The allow-lists of the mesh, each at its service's path.",
)
_json: Final = click.option("--json", "as_json", is_flag=True, help="Report as JSON.")


def read_estate(directory: Path) -> Mapping[str, Document]:
    """The allow-lists of a directory by their services. Ends the command (exit 2) when one cannot be read."""
    if not directory.is_dir():
        fail(f"{directory} is no directory; expected one of allow-lists, each at its service's path")
    services: dict[str, Document] = {}
    for file in lists_in(directory):
        try:
            service = service_of(file.relative_to(directory).as_posix())
        except ValueError as error:
            fail(f"{file} is of no service: {error}")
        services[service] = document_or_fail(file)
    return services


@click.command(
    "who-can",
    short_help="Who may call a service, and for what.",
    epilog=example(
        "meshproxy policy who-can /ledger --method DELETE --path /accounts/7",
        "meshproxy policy who-can /ledger --path '/accounts/**' --policies policies/",
    ),
)
@click.argument("service", metavar="/SERVICE")
@click.option("--method", metavar="M", help="Who may do this.  [default: anything]")
@click.option("--path", metavar="P", help="A path, or a pattern such as /accounts/**.  [default: anywhere]")
@directory_option
@_json
def who_can_command(*, service: str, method: str | None, path: str | None, directory: Path, as_json: bool) -> None:
    """Tell who may call /SERVICE, for what, and which rule says so. Exits 0 when somebody may, 1 when nobody."""
    whose = caller_and_home(service, None)[0].path
    file = directory / file_of(whose)
    if not file.exists():
        fail(f"{whose} has no allow-list: expected it as {file}")
    found = accesses({whose: document_or_fail(file)}, now=datetime.now(UTC))
    _tell(list(who_can(found, method=method, path=_pattern(path))), as_json=as_json, by_service=False)


@click.command(
    "what-can",
    short_help="What a service may do at others.",
    epilog=example("meshproxy policy what-can /checkout --policies policies/"),
)
@click.argument("caller", metavar="ID")
@directory_option
@trust_domain_option
@_json
def what_can_command(*, caller: str, directory: Path, trust_domain: str | None, as_json: bool) -> None:
    """Tell what the service ID may do at which others. Exits 0 when there is something, 1 when nothing."""
    who, home = caller_and_home(caller, trust_domain)
    found = accesses(read_estate(directory), now=datetime.now(UTC))
    _tell(list(what_can(found, who, home=home)), as_json=as_json, by_service=True)


def _pattern(text: str | None) -> PathPattern | None:
    try:
        return None if text is None else PathPattern.parse(text)
    except ValueError as error:
        fail(f"--path {printable(text or '')}: expected {error}")


def _tell(found: list[Access], *, as_json: bool, by_service: bool) -> None:
    if as_json:
        print_json([_row(each) for each in found])
    else:
        width = max((len(_subject(each, by_service=by_service)) for each in found), default=0)
        for each in found:
            _show(_subject(each, by_service=by_service), each, width + 2)
        if not found:
            click.echo("nothing" if by_service else "nobody", err=True)
    raise SystemExit(0 if found else 1)


def _show(subject: str, access: Access, margin: int) -> None:
    """In one line for whoever looks for words in it; on a terminal where that is too long the rule in a line below."""
    place = f"({access.rule.name}, {access.file}:{access.rule.line})"
    one_line = f"{access.for_what}  {place}"
    if not sys.stdout.isatty() or len(wrapped(one_line, margin)) == 1:
        said = paint(f"{subject:<{margin}}", Tone.STRONG)
        click.echo(f"{said}{access.for_what}  {paint(place, Tone.FAINT)}")
        return
    margin = min(margin, _WIDEST_MARGIN)
    if len(subject) >= margin:
        click.echo(paint(subject, Tone.STRONG))
        subject = ""
    say(subject, access.for_what, tone=Tone.STRONG, margin=margin)
    for line in wrapped(place, margin):
        click.echo(" " * margin + paint(line, Tone.FAINT))


def _subject(access: Access, *, by_service: bool) -> str:
    return access.service if by_service else access.callers.text


def _row(access: Access) -> dict[str, object]:
    rule = access.rule
    return {
        "service": access.service,
        "callers": access.callers.text,
        "methods": rule.methods,
        "paths": None if rule.paths is None else [pattern.text for pattern in rule.paths],
        "expires": rule.expires,
        "rule": rule.name,
        "owner": rule.owner or None,
        "reason": rule.reason or None,
        "file": access.file,
        "line": rule.line,
    }
