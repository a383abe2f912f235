"""What the commands about allow-lists share: reading files, completing identities, judging paths as a sidecar does."""

from __future__ import annotations

import os
import shutil
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from cryptography.hazmat.primitives.serialization import Encoding

from ca import identity_directory
from ca.spiffe_id import SCHEME, SpiffeId, TrustDomain, complete
from ca.svid import read_chain, read_leaf
from meshproxy.cli.terminal import Tone, fail, os_error_words, paint, print_problems, printable
from meshproxy.errors import FaultyInput
from meshproxy.http.head import BadMessage
from meshproxy.policy.cases import NOBODYS, judged_request
from meshproxy.policy.compile import compile_policy
from meshproxy.policy.document import parse_allow_list
from meshproxy.policy.estate import SUFFIX
from meshproxy.settings.files import UnreadableFile, read_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshproxy.policy.compile import Policy
    from meshproxy.policy.document import Document, Rule

_MARGIN: Final = 9
_WIDEST: Final = 100
_DEEPEST: Final = 32  # directories below one another

trust_domain_option: Final = click.option(
    "--trust-domain",
    metavar="TD",
    help="What short identities such as /web belong to.  [default: that of ./identity, if there is one]",
)


@dataclass(frozen=True, slots=True)
class AllowList:
    """An allow-list file as it is: its text, its rules, and what decides by them."""

    document: Document
    policy: Policy
    lines: tuple[str, ...]

    def text_of(self, rule: Rule) -> str:
        """The rule as it stands in the file, up to where the next table begins."""
        following = (each.line for each in self.document.rules if each.line > rule.line)
        end = min(following, default=len(self.lines) + 1) - 1
        lines = [line.removesuffix("\r") for line in self.lines[rule.line - 1 : end]]
        while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
            lines.pop()  # what introduces the next one
        return "\n".join(lines)


def load(path: Path, *, tcp: bool = False) -> AllowList:
    """Read an allow-list; `tcp`: to judge connections, which have no method. Raises FaultyInput, UnreadableFile."""
    content, _ = read_file(path)
    document = parse_allow_list(content, file=str(path), tcp_listener="the listener asked about" if tcp else None)
    return AllowList(document, compile_policy(document), tuple(content.decode().split("\n")))


def read_document(path: Path) -> Document:
    """Read the rules of an allow-list alone, which takes half as long. Raises FaultyInput, UnreadableFile."""
    return parse_allow_list(read_file(path)[0], file=str(path))


def document_or_fail(path: Path) -> Document:
    """As `read_document`, of a list that is not itself under judgement; ends the command (exit 2) if it is faulty."""
    with read_or_fail(path):
        return read_document(path)


@contextmanager
def read_or_fail(name: object) -> Iterator[None]:
    """Read a file that is not itself under judgement; ends the command (exit 2) when it cannot be read, or is faulty.

    `name` is what the user knows the file as.
    """
    try:
        yield
    except UnreadableFile as error:
        fail(error.sentence(name))
    except FaultyInput as faulty:
        print_problems(faulty.problems)
        count = len(faulty.problems)
        fail(f"{count} {'problem' if count == 1 else 'problems'}; nothing was decided")


def lists_in(directory: Path) -> list[Path]:
    """All allow-lists below a directory, in order of their names. Ends the command (exit 2) when there is none.

    Links to directories are followed, as a sidecar does that looks for its own list, but not in a circle. What begins
    with two dots is passed over: there Kubernetes keeps the files of a mounted volume, and links them to their places.
    """
    found = sorted(_lists_in(directory, frozenset()))
    if not found:
        fail(f"there is no *{SUFFIX} in {directory}")
    return found


def _lists_in(directory: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    try:
        status = directory.stat()
        with os.scandir(directory) as listing:
            entries = [(Path(directory, each.name), _is_directory(each)) for each in listing if each.name[:2] != ".."]
    except OSError as error:  # what is in it may be a list that a sidecar obeys
        fail(f"{os_error_words(error)}; what is in it cannot be told")
    me = (status.st_dev, status.st_ino)
    if me in above:
        return
    if len(above) >= _DEEPEST:
        fail(f"{directory} is more than {_DEEPEST} directories deep; name one further down")
    for entry, is_directory in entries:
        if is_directory:
            yield from _lists_in(entry, above | {me})
        elif entry.name.endswith(SUFFIX):
            yield entry


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: reading it will say so, if it is called as a list is
        return False


def load_or_fail(path: Path, *, tcp: bool = False) -> AllowList:
    """Read an allow-list that is not itself under judgement; ends the command (exit 2) when it cannot be used."""
    with read_or_fail(path):
        return load(path, tcp=tcp)


def own_domain(given: str | None) -> TrustDomain | None:
    """The trust domain of short identities: the one given, or that of the identity in reach, or None."""
    if given is not None:
        try:
            return TrustDomain.parse(given)
        except ValueError as error:
            fail(str(error))
    try:
        chain = identity_directory.read_identity(Path("identity")).chain
        if chain is None:
            return None
        return read_leaf(read_chain(chain)[0].public_bytes(Encoding.DER)).id.trust_domain
    except (OSError, ValueError):
        return None


def caller_and_home(text: str, given: str | None) -> tuple[SpiffeId, TrustDomain]:
    """Who calls, and the own trust domain; a short identity is of the latter. Ends the command when it is no identity.

    Where nobody says which the own trust domain is, a short identity is of it all the same, and a full one is taken to
    be.
    """
    home = own_domain(given)
    try:
        if text.startswith(SCHEME):
            caller = SpiffeId.parse(text)
            return caller, home or caller.trust_domain
        home = home or NOBODYS
        return complete(text, home), home
    except ValueError:
        fail(f"{printable(text[:100])} is no identity; expected one such as /web, or spiffe://example.org/web")


def say(label: str, text: str, *, tone: Tone | None = None, margin: int = _MARGIN) -> None:
    """Print a text beside its label, in as many lines as the terminal needs; `margin` is wider than any label."""
    for number, line in enumerate(wrapped(text, margin)):
        start = f"{label:<{margin}}" if number == 0 else " " * margin
        click.echo((paint(start, tone) if tone and number == 0 else start) + line)


def wrapped(text: str, margin: int) -> list[str]:
    """A text in as many lines as the terminal needs, beside a margin; at least one."""
    width = max(40, min(_WIDEST, shutil.get_terminal_size((80, 24)).columns))
    return textwrap.wrap(text, width - margin, break_on_hyphens=False, break_long_words=False) or [""]


def visible(text: str) -> str:
    """A line of a file made safe for a terminal, as people wrote it otherwise: letters of all scripts stay."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


def judged(method: str, path: str) -> tuple[str, str]:
    """A request as rules are asked about it; ends the command (exit 1) for one that is refused before any rule is."""
    try:
        return judged_request(method, path)
    except BadMessage as bad:
        fail(f"such a request is refused with {bad.status} before any rule is asked: {bad.detail}", exit_code=1)
