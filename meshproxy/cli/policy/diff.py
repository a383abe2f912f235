"""`meshproxy policy diff`: what one version of an allow-list grants and another does not."""

from __future__ import annotations

import io
import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from meshproxy.cli.policy.lists import document_or_fail, lists_in, own_domain, read_or_fail, say, trust_domain_option
from meshproxy.cli.terminal import Tone, example, fail, paint, print_json, printable
from meshproxy.policy.difference import Change, Kind, difference
from meshproxy.policy.document import Document, parse_allow_list
from meshproxy.policy.estate import SUFFIX
from meshproxy.policy.regions import TooIntricate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ca.spiffe_id import TrustDomain

_TONES: Final = {Kind.APPEARS: Tone.WARNING, Kind.WIDENS: Tone.WARNING, Kind.VANISHES: Tone.BAD, Kind.NARROWS: Tone.BAD}
_SIGNS: Final = {Kind.APPEARS: "+", Kind.WIDENS: "+", Kind.VANISHES: "-", Kind.NARROWS: "-"}
_MARGIN: Final = len("- vanishes ")
_GIT_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the comparison: allow-lists by the name that both sides know them by."""

    name: str
    documents: Mapping[str, Document]


@click.command(
    short_help="Compare two versions by what they grant.",
    epilog=example(
        "meshproxy policy diff old/api.allow.toml api.allow.toml",
        "meshproxy policy diff policies.old/ policies/",
        "meshproxy policy diff --git main policies/",
    ),
)
@click.argument("paths", nargs=-1, required=True, metavar="[OLD] NEW", type=click.Path(path_type=Path))
@click.option("--git", "revision", metavar="REV", help="OLD is NEW as it was in this revision of its repository.")
@trust_domain_option
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
def diff(*, paths: tuple[Path, ...], revision: str | None, trust_domain: str | None, as_json: bool) -> None:
    """Compare what allow-lists grant, not their text: what appears or widens (+), what vanishes or narrows (-).

    OLD and NEW are two files, or two directories whose *.allow.toml are compared by name. Proved over patterns: there
    is no difference if and only if every request is decided alike. Exits 0 when there is none, 1 when there is, 2 when
    something cannot be read.
    """
    if len(paths) != (2 if revision is None else 1):
        raise click.UsageError("name NEW alone with --git REV, else OLD and NEW")
    if revision is None and paths[0].is_dir() != paths[1].is_dir():
        raise click.UsageError("name two files or two directories; one of these is a directory, and one is none")
    new = _side_of(paths[-1])
    old = _side_of(paths[0]) if revision is None else _side_in_git(revision, paths[0], new)
    home, now = own_domain(trust_domain), datetime.now(UTC)
    changes = {name: _changes(old, new, name, home, now) for name in sorted({*old.documents, *new.documents})}
    if as_json:
        print_json(
            {
                "same": not any(changes.values()),
                "changes": [_row(name, each) for name in changes for each in changes[name]],
            }
        )
    else:
        _show(changes, old, new)
    raise SystemExit(1 if any(changes.values()) else 0)


def _changes(old: Side, new: Side, name: str, home: TrustDomain | None, now: datetime) -> list[Change]:
    before, after = (side.documents[name].rules if name in side.documents else () for side in (old, new))
    try:
        return list(difference(before, after, home=home, now=now))
    except TooIntricate:
        fail(f"{name}: its rules overlap in so many ways that the two cannot be compared; write fewer `*` at one place")


def _side_of(path: Path) -> Side:
    if not path.is_dir():
        return Side(str(path), {"": document_or_fail(path)})
    return Side(str(path), {str(file.relative_to(path)): document_or_fail(file) for file in lists_in(path)})


def _parsed(content: bytes, name: str) -> Document:
    with read_or_fail(name):
        return parse_allow_list(content, file=name)


def _side_in_git(revision: str, path: Path, new: Side) -> Side:
    """The same file, or the same directory's allow-lists, as a revision has them."""
    if revision.startswith("-"):
        fail(f"{printable(revision)} is no revision")
    where = path if path.is_dir() else path.parent
    if "" in new.documents:
        content = _git(where, "show", f"{revision}:./{path.name}")
        return Side(revision, {"": _parsed(content, f"{revision}:{path}")})
    return Side(
        revision,
        {name: _parsed(content, f"{revision}:{name}") for name, content in _lists_in_git(where, revision).items()},
    )


def _lists_in_git(where: Path, revision: str) -> dict[str, bytes]:
    """The allow-lists of a directory in a revision: two calls of git, however many there are."""
    listed = _git(where, "ls-tree", "-r", "-z", revision, "./").split(b"\0")
    objects: dict[str, bytes] = {}
    for entry in filter(None, listed):  # "100644 blob 83baae6... name"; a link's content is only where it leads
        about, _, name = entry.partition(b"\t")
        if about.startswith(b"100") and name.endswith(SUFFIX.encode()):
            objects[os.fsdecode(name)] = about.split(b" ")[2]
    answer = io.BytesIO(_git(where, "cat-file", "--batch", ask=b"".join(b"%s\n" % each for each in objects.values())))
    contents: dict[str, bytes] = {}
    for listed_name in objects:  # "83baae6... blob 1234\n", so many bytes, "\n"
        size = int(answer.readline().split(b" ")[2])
        contents[listed_name] = answer.read(size)
        answer.read(1)
    return dict(sorted(contents.items()))


def _git(where: Path, *words: str, ask: bytes = b"") -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 - the user's own git, asked about the user's own repository
            ["git", "-C", str(where), *words],  # noqa: S607 - whichever git the user has
            capture_output=True,
            input=ask,
            check=False,
            timeout=_GIT_PATIENCE,
        )
    except FileNotFoundError:
        fail("git is not here; compare two files or directories instead")
    except subprocess.TimeoutExpired:
        fail(f"git did not answer within {_GIT_PATIENCE:g} s")
    if done.returncode:
        fail(f"git says: {printable(done.stderr.decode(errors='replace').strip())}")
    return done.stdout


def _show(changes: Mapping[str, list[Change]], old: Side, new: Side) -> None:
    for name, found in changes.items():
        if found and name:
            gone = " is gone" if name not in new.documents else " is new" if name not in old.documents else ""
            click.echo(paint(f"{name}{gone}", Tone.STRONG))
        for change in found:
            place = f"rule {change.grant.rule.name!r}, line {change.grant.rule.line}"
            label, since = f"{_SIGNS[change.kind]} {change.kind}", change.since
            say(label, f"{_grant(change)} ({place})", tone=_TONES[change.kind], margin=_MARGIN)
            when = "" if since is None else f", from {since:%Y-%m-%d} on"
            say("", f"as in {printable(str(change.example))}{when}", margin=_MARGIN)
    count = sum(map(len, changes.values()))
    words = (
        "no difference: every request is decided alike"
        if not count
        else f"{count} {'grant differs' if count == 1 else 'grants differ'}"
    )
    click.echo(words, err=True)


def _grant(change: Change) -> str:
    """A grant as it is written in a rule."""
    grant = change.grant
    who = str(grant.callers)
    methods = "any method" if grant.methods is None else ", ".join(sorted(grant.methods))
    path = "any path" if grant.path is None else str(grant.path)
    what = "everything" if grant.methods is None and grant.path is None else f"{methods} on {path}"
    until = f" until {grant.expires:%Y-%m-%d}" if grant.expires else ""
    domain = f"spiffe://{grant.domain}" if grant.domain else ""
    return f"{domain}{who}: {what}{until}"


def _row(name: str, change: Change) -> dict[str, object]:
    grant, example = change.grant, change.example
    return {
        "file": name or None,
        "kind": change.kind,
        "rule": grant.rule.name,
        "line": grant.rule.line,
        "grant": _grant(change),
        "since": change.since,
        "example": {
            "caller": example.caller,
            "trust_domain": example.domain,
            "method": example.method,
            "path": example.path,
        },
    }
