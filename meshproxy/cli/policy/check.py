"""`meshproxy policy check`: whether allow-lists can be loaded, and what in them is probably not meant."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from meshproxy.cli.policy.lists import lists_in, own_domain, read_document, trust_domain_option, wrapped
from meshproxy.cli.terminal import Tone, example, paint, print_json
from meshproxy.errors import FaultyInput
from meshproxy.policy import invariants
from meshproxy.policy.estate import service_of
from meshproxy.policy.lint import Code, Strictness, left_out, lint
from meshproxy.settings.files import UnreadableFile, file_name, read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ca.spiffe_id import TrustDomain
    from meshproxy.errors import Problem
    from meshproxy.policy.document import Document

_T = TypeVar("_T")

_FORMATS: Final = ("text", "json", "github")
# GitHub's workflow commands: what ends one must be escaped in its text, and more in a property.
_IN_TEXT: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_IN_PROPERTY: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})

_RENAME: Final = "Name it after its service"


class Weight(StrEnum):
    """How bad it is: a file with errors is not loaded."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to say about a file."""

    weight: Weight
    code: str
    file: str
    line: int | None
    found: str
    remedy: str


@click.command(
    short_help="Find faults, and what is probably not meant.",
    epilog=example(
        "meshproxy policy check api.allow.toml",
        "meshproxy policy check policies/ --require reason --require owner --strict",
        "meshproxy policy check policies/ --format github",
    ),
)
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR...", type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="Warnings count as well: exit 1 if there is one.")
@click.option(
    "--require", "required", multiple=True, type=click.Choice(["reason", "owner"]), help="Of every rule; repeatable."
)
@click.option(
    "--ignore",
    multiple=True,
    metavar="CODE",
    type=click.Choice([each.value for each in Code]),
    help="Leave warnings of this kind out, as any_caller; repeatable.",
)
@click.option("--format", "form", type=click.Choice(_FORMATS), default="text", show_default=True, help="How to say it.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@trust_domain_option
def check(
    *,
    paths: tuple[Path, ...],
    strict: bool,
    required: tuple[str, ...],
    ignore: tuple[str, ...],
    form: str,
    as_json: bool,
    trust_domain: str | None,
) -> None:
    """Judge allow-lists: errors keep a file from being loaded; warnings are sound, and probably not meant.

    Of a DIR all *.allow.toml below it are judged. What an invariants.toml in a directory above a list promises is
    proved of it. Exits 0 when there is
    no error (with --strict: no warning either), 1 otherwise, 2 when there is nothing to judge.
    """
    home, now = own_domain(trust_domain), datetime.now(UTC)
    strictness = Strictness(reason="reason" in required, owner="owner" in required)
    codes = {Code(each) for each in ignore}
    directories = {path: lists_in(path) for path in paths if path.is_dir()}
    files = tuple(dict.fromkeys(file for path in paths for file in directories.get(path, (path,))))
    judged = _Judged(home, now, strictness, codes, {})
    remarks = [each for file in files for each in judged.remarks(file)]
    remarks += [each for path, lists in directories.items() for each in _misplaced(path, lists)]
    remarks += [
        each
        for root, services in _promising(files, judged.sound).items()
        for each in judged.broken_promises(
            root, services, whole=any(map(root.is_relative_to, map(_absolute, directories)))
        )
    ]
    faulty = sum(each.weight is Weight.ERROR for each in remarks)
    if as_json or form == "json":
        print_json({"files": [str(file) for file in files], "sound": not faulty, "remarks": remarks})
    else:
        tell = _as_annotation if form == "github" else _in_words
        for remark in remarks:
            click.echo(tell(remark))
        _sum_up(len(files), faulty, len(remarks) - faulty)
    raise SystemExit(1 if faulty or (strict and remarks) else 0)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What files are judged by."""

    home: TrustDomain | None
    now: datetime
    strictness: Strictness
    ignore: set[Code]
    sound: dict[Path, Document]  # filled by `remarks`

    def remarks(self, file: Path) -> Iterator[Remark]:
        """What there is to say of one allow-list."""
        document, faults = _read(str(file), lambda: read_document(file))
        yield from faults
        if document is None:
            return
        self.sound[file] = document
        found = lint(document, home=self.home, now=self.now, strictness=self.strictness)
        for finding in left_out(found, self.ignore):
            words = f"rule {finding.rule.name!r}: {finding.found}"
            yield Remark(Weight.WARNING, finding.code, str(file), finding.rule.line, words, finding.remedy)

    def broken_promises(self, root: Path, services: Mapping[str, Document], *, whole: bool) -> Iterator[Remark]:
        """What breaks the promises of a directory; `whole`: these are all services that have a list there."""
        file = root / invariants.FILE
        name = file_name(file)
        promised, faults = _read(name, lambda: invariants.read_invariants(read_file(file)[0], file=name))
        yield from faults
        for service, document in services.items():
            for broken in invariants.violations(promised or (), service, document.rules, home=self.home, now=self.now):
                words = f"rule {broken.rule.name!r} breaks {broken.invariant.name!r}: {broken.found}"
                remedy = f"Narrow the rule; the promise is {name}:{broken.invariant.line}"
                yield Remark(Weight.ERROR, "invariant", document.file, broken.rule.line, words, remedy)
        for each in promised or ():
            if whole and not any(map(each.is_about, services)):
                words = f"{each.name!r} is about no service that has a list here: it promises nothing"
                yield Remark(Weight.WARNING, "idle_invariant", name, each.line, words, "Correct `services`")


def _misplaced(directory: Path, lists: Iterable[Path]) -> Iterator[Remark]:
    """The allow-lists of a directory that lie where no service's list is looked for."""
    for file in lists:
        try:
            service_of(file.relative_to(directory).as_posix())
        except ValueError as error:
            yield Remark(Weight.ERROR, "no_service", str(file), None, f"a file of no service: {error}", _RENAME)


def _promising(files: Iterable[Path], sound: Mapping[Path, Document]) -> dict[Path, dict[str, Document]]:
    """The directories that promise something, and the services that have one of these files there, if it is sound.

    Which of the directories above a list a sidecar is told to look in nobody knows here, so the promises of each count.
    """
    promises = cache(lambda directory: os.path.lexists(directory / invariants.FILE))
    found: dict[Path, dict[str, Document]] = {}
    for file in files:
        place = _absolute(file)
        for root in filter(promises, place.parents):
            services = found.setdefault(root, {})
            with suppress(ValueError, KeyError):  # of no service, or faulty: both are told
                services[service_of(place.relative_to(root).as_posix())] = sound[file]
    return found


def _absolute(path: Path) -> Path:
    """Where a path is; the links on the way are its name."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow them


def _read(name: str, read: Callable[[], _T]) -> tuple[_T | None, tuple[Remark, ...]]:
    """What is in a file under judgement; or None, and why it cannot be used."""
    try:
        return read(), ()
    except UnreadableFile as error:
        return None, (Remark(Weight.ERROR, "unreadable", name, None, error.found, error.remedy),)
    except FaultyInput as faulty:
        return None, tuple(map(_fault, faulty.problems))


def _fault(problem: Problem) -> Remark:
    subject = f"{problem.where}: " if problem.where else ""
    found = f"{subject}found {problem.found}; expected {problem.expected}"
    return Remark(Weight.ERROR, "faulty", problem.file, problem.line, found, problem.remedy)


def _in_words(remark: Remark) -> str:
    place = remark.file if remark.line is None else f"{remark.file}:{remark.line}"
    tone = Tone.BAD if remark.weight is Weight.ERROR else Tone.WARNING
    remedy = f"{remark.remedy[:1].lower()}{remark.remedy[1:]}"
    # In one line each for whoever looks for words in it, in several for whoever reads them.
    lines = [line for text in (remark.found, remedy) for line in (wrapped(text, 4) if sys.stdout.isatty() else (text,))]
    head = f"{paint(place, Tone.STRONG)}: {paint(remark.weight, tone)} {remark.code}"
    return "\n    ".join([head, *lines])


def _as_annotation(remark: Remark) -> str:
    """As GitHub's workflow command `error` or `warning`, which shows it beside the line of a pull request."""
    line = "" if remark.line is None else f",line={remark.line}"
    file, title = remark.file.translate(_IN_PROPERTY), f"allow-list: {remark.code}".translate(_IN_PROPERTY)
    return (
        f"::{remark.weight} file={file}{line},title={title}::{f'{remark.found}; {remark.remedy}'.translate(_IN_TEXT)}"
    )


def _sum_up(files: int, errors: int, warnings: int) -> None:
    counts = [f"{n} {word}{'s' if n != 1 else ''}" for n, word in ((errors, "error"), (warnings, "warning")) if n]
    word = paint("faulty", Tone.BAD) if errors else paint("sound", Tone.GOOD)
    click.echo(
        f"{word}: {files} {'file' if files == 1 else 'files'}, {', '.join(counts) or 'nothing to say'}", err=True
    )
