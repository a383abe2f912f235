"""`meshproxy audit`: whether a log is what was written, what it holds, and how far it goes."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, TypeVar

import click

from ca.spiffe_id import SpiffeId, TrustDomain
from meshproxy.audit.checkpoints import CheckpointError, Seal, read
from meshproxy.audit.lines import LONGEST, Checkpoint, Decision, Why, opened_by, read_body
from meshproxy.audit.query import Question, What
from meshproxy.audit.verify import Demands, Verifier, in_order
from meshproxy.cli.reading import lines, progress
from meshproxy.cli.terminal import Tone, example, fail, paint, print_json, printable
from meshproxy.policy.match import IdentityPattern
from meshproxy.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshproxy.audit.verify import Report

_T = TypeVar("_T")

_WORDS: Final = ("allow", "deny", "would_deny")
_files: Final = click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
_json: Final = click.option("--json", "as_json", is_flag=True, help="Report as JSON.")


@click.group(
    epilog=example(
        "meshproxy audit verify audit.jsonl* --bundle bundle.pem",
        "meshproxy audit query audit.jsonl --who /web --decision deny --since 24h",
    )
)
def audit() -> None:
    """Judge and search audit logs: what allow-lists have decided, in chained and signed files."""


@audit.command(
    short_help="Whether logs are what was written.",
    epilog=example(
        "meshproxy audit verify audit.jsonl* --bundle roots.pem --id spiffe://td/api",
        "meshproxy audit verify audit.jsonl* --bundle roots.pem --head 4211:9f86...",
    ),
)
@_files
@click.option("--bundle", metavar="F", type=click.Path(path_type=Path), help="The roots that vouch for the signer.")
@click.option("--id", "signer", metavar="ID", help="Whose log it has to be, in full.")
@click.option(
    "--head", "heads", multiple=True, metavar="H", help="A checkpoint kept elsewhere: file, or NUMBER:HASH; repeatable."
)
@_json
def verify(
    *, files: tuple[Path, ...], bundle: Path | None, signer: str | None, heads: tuple[str, ...], as_json: bool
) -> None:
    """Tell whether lines were changed, removed, put in or moved, in one file and across those put aside.

    Files are taken in the order of their chain, whatever their names. A log cannot show that its end was cut off: keep
    checkpoints elsewhere (the sidecar's own log tells each, or `meshproxy audit head`) and give them by --head.

    Exits 0 when nothing was found, 1 when something was, 2 for files that cannot be read.
    """
    roots = None if bundle is None else _content(bundle)
    if signer is not None:
        _identity(signer)
    known = tuple(map(_head, heads))
    reports: list[Report] = []
    with progress(_size_of(files)) as moved:
        for chain in in_order([(str(file), _first_line(file)) for file in files]):
            opened = opened_by(_first_line(Path(chain[0])))
            of_this = tuple(each for each in known if not each.chain or opened is None or each.chain == opened.chain)
            verifier = Verifier(Demands(roots, signer or "", of_this))
            for file in chain:
                with _opened(Path(file)) as stream:
                    verifier.take(file, lines(stream, moved, longest=LONGEST))
            reports.append(verifier.report())
    unused = [each for each in known if each.chain and each.chain not in {report.chain for report in reports}]
    if unused:
        fail(f"none of these files is of the chain {printable(unused[0].chain)} that --head is of", exit_code=1)
    if as_json:
        print_json([{"sound": each.sound, **{name: getattr(each, name) for name in _SHOWN}} for each in reports])
    else:
        for each in reports:
            _show(each, vouched=roots is not None)
    raise SystemExit(0 if all(each.sound for each in reports) else 1)


_SHOWN: Final = (
    "chain",
    "files",
    "begins_at",
    "reached",
    "covered",
    "decisions",
    "missing",
    "checkpoints",
    "signers",
    "crashes",
    "ended",
    "being_written",
    "faults",
    "more_faults",
)


@audit.command(
    short_help="Who was allowed or denied what.",
    epilog=example(
        "meshproxy audit query audit.jsonl* --who /web --what 'PUT /a/**' --since 7d",
        "meshproxy audit query audit.jsonl --decision deny --json | jq .caller",
    ),
)
@_files
@click.option("--who", metavar="ID", help="An identity or a pattern such as /team-pay/**.")
@click.option("--what", metavar="PATTERN", help="A method, a path pattern, or both: 'DELETE /accounts/*'.")
@click.option("--since", metavar="T", help="A time (2026-11-01, 2026-11-01T12:00:00Z), or how long ago (24h).")
@click.option("--until", metavar="T", help="As --since, up to but without it.")
@click.option("--decision", "decisions", multiple=True, type=click.Choice(_WORDS), help="Decided so; repeatable.")
@click.option("--listener", default="", metavar="NAME", help="Of this listener.")
@click.option("--trust-domain", metavar="TD", help="What a short --who belongs to.  [default: any]")
@click.option("--json", "as_json", is_flag=True, help="Print the lines as they stand in the log.")
def query(
    *,
    files: tuple[Path, ...],
    who: str | None,
    what: str | None,
    since: str | None,
    until: str | None,
    decisions: tuple[str, ...],
    listener: str,
    trust_domain: str | None,
    as_json: bool,
) -> None:
    """Print the decisions that match all that is given, in the order of the log.

    It believes the log: `meshproxy audit verify` says whether that is right. Exits 0 when there are some, 1 when none.
    """
    now = datetime.now(UTC)
    question = Question(
        who=_parsed("--who", who, IdentityPattern.parse),
        what=_parsed("--what", what, What.parse),
        since=_parsed("--since", since, lambda text: _time(text, now)),
        until=_parsed("--until", until, lambda text: _time(text, now)),
        decisions=decisions,
        listener=listener,
        home=_parsed("--trust-domain", trust_domain, TrustDomain),
    )
    found = 0
    with progress(_size_of(files), prints=True) as moved:
        for chain in in_order([(str(file), _first_line(file)) for file in files]):
            for file in chain:
                with _opened(Path(file)) as stream:
                    for line in lines(stream, moved, longest=LONGEST):
                        body = read_body(line)
                        if isinstance(body, Decision) and question.match(body):
                            found += 1
                            click.echo(line.decode().rstrip("\n") if as_json else _in_words(body))
    if not found and not as_json:
        click.echo("nothing was decided like that", err=True)
    raise SystemExit(0 if found else 1)


@audit.command(
    short_help="The last signed checkpoint, to keep elsewhere.",
    epilog=example("meshproxy audit head audit.jsonl > /elsewhere/api.head"),
)
@click.argument("file", type=click.Path(path_type=Path))
def head(*, file: Path) -> None:
    """Print the last signed checkpoint of FILE: keep it where nobody who can write FILE can write."""
    last = None
    with _opened(file) as stream:
        for line in lines(stream, lambda _: None, longest=LONGEST):
            if isinstance(read_body(line), Checkpoint):
                last = line
    if last is None:
        fail(f"{file} holds no checkpoint: nothing in it is signed yet", exit_code=1)
    click.echo(last.decode().rstrip("\n"))


def _show(report: Report, *, vouched: bool) -> None:
    for fault in report.faults:
        click.echo(f"{paint('wrong', Tone.BAD)}  {printable(str(fault))}")
    if report.more_faults:
        click.echo(f"{paint('wrong', Tone.BAD)}  and {report.more_faults} more")
    name = f"chain {printable(report.chain)}" if report.chain else "no chain"
    verdict = paint("sound", Tone.GOOD) if report.sound else paint("not sound", Tone.BAD)
    click.echo(f"{verdict}: {name}, lines {report.begins_at} to {report.reached}, {report.decisions} decisions")
    signers = printable(", ".join(report.signers)) or "nobody"
    click.echo(f"  signed by    {signers}, {report.checkpoints} times, last up to line {report.covered}")
    if not vouched and report.signers:
        click.echo(f"  {paint('unproved', Tone.WARNING)}     whether that is so: give --bundle F with the roots")
    if report.begins_at > 1:
        click.echo(f"  {paint('not here', Tone.WARNING)}     lines 1 to {report.begins_at - 1}")
    if report.reached > report.covered:
        click.echo(f"  {paint('unsigned', Tone.WARNING)}     lines after {report.covered}: they could be written anew")
    if report.missing:
        click.echo(
            f"  {paint('missing', Tone.WARNING)}      {report.missing} decisions found no room, and were refused"
        )
    if report.crashes:
        click.echo(f"  crashes      {report.crashes}, after which the chain went on")
    if report.being_written:
        click.echo("  last line    cut: it is being written, or a crash has cut it")
    elif not report.ended:
        click.echo("  its end      is no proper one: it is still written, the process died, or the end was cut off")


def _in_words(each: Decision) -> str:
    tone = Tone.GOOD if each.decision == "allow" else Tone.BAD if each.decision == "deny" else Tone.WARNING
    asked = f"{each.method} {each.path}" if each.method else "a connection"
    why = each.rule or each.reason
    cut = ", cut" if each.cut else ""
    what = printable(f"{each.caller} -> {each.listener}: {asked} ({why}{cut})")
    return f"{paint(each.ts, Tone.FAINT)}  {paint(f'{each.decision:10}', tone)}  {what}"


def _head(text: str) -> Seal:
    """A checkpoint that was kept elsewhere: a line of `audit head`, or what the sidecar's log says of one."""
    number, colon, digest = text.partition(":")
    if colon and number.isdigit() and len(digest) == 64:  # SHA-256 in hex
        return Seal("", int(number), digest.lower(), "", Why.INTERVAL)
    lines = _content(Path(text)).splitlines()
    body = read_body(lines[-1] + b"\n") if lines else None
    if not isinstance(body, Checkpoint):
        fail(f"--head {printable(text)} holds no checkpoint: expected what `meshproxy audit head` printed")
    try:
        return read(body).seal
    except CheckpointError as error:
        fail(f"--head {printable(text)} cannot be believed: {error}")


def _time(text: str, now: datetime) -> datetime:
    try:
        return now - timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a time such as 2026-11-01T12:00:00Z, or how long ago, such as 24h") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _parsed(option: str, text: str | None, parse: Callable[[str], _T]) -> _T | None:
    try:
        return None if text is None else parse(text)
    except ValueError as error:
        fail(f"{option} {printable(text or '')}: expected {error}")


def _identity(text: str) -> SpiffeId:
    try:
        return SpiffeId.parse(text)
    except ValueError as error:
        fail(f"--id {printable(text)}: {error}")


def _content(file: Path) -> bytes:
    with _opened(file) as stream:
        return stream.read(16 << 20)


def _first_line(file: Path) -> bytes:
    with _opened(file) as stream:
        return stream.readline(LONGEST)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    try:
        with file.open("rb") as stream:
            yield stream
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")


def _size_of(files: tuple[Path, ...]) -> int:
    size = 0
    for file in files:
        try:
            size += file.stat().st_size
        except OSError as error:
            fail(f"{file} cannot be read: {error.strerror}")
    return size
