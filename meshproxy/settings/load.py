"""The shell of this floor: opens a sidecar's file and its allow-lists, and brings them together.

One transaction: either everything is good and a whole `Configuration` comes out, or every fault of every file does,
and whoever holds an older configuration keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from meshproxy.errors import FaultyInput, Problem
from meshproxy.policy.compile import compile_policy
from meshproxy.policy.document import Document, parse_allow_list
from meshproxy.settings.directory import Mirrored, mirrored
from meshproxy.settings.files import UnreadableFile, authority_problems, file_name, read_file
from meshproxy.settings.read import read_settings
from meshproxy.settings.schema import PolicyDirectory, Protocol
from meshproxy.toml import parse_toml, quote

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from pathlib import Path

    from meshproxy.policy.compile import Policy
    from meshproxy.settings.read import PolicyUse, Reading
    from meshproxy.settings.schema import AdminSettings, IdentitySettings, Settings


@dataclass(frozen=True, slots=True)
class Configuration:
    """A sidecar's settings with the compiled allow-list of each inbound listener, by listener name.

    Listeners that name the same file share one `Policy`. `files` are all files that were read, the sidecar's own
    first: what to watch for a reload. `contents` is what was read from them, where that was to be kept. `known` is the
    certificate by which the allow-list was chosen, where it was: a sidecar does not become another one while it runs,
    so its reloads go by the same.
    """

    settings: Settings
    policies: Mapping[str, Policy]
    files: tuple[Path, ...]
    contents: Mapping[Path, bytes] = field(default_factory=dict, repr=False)
    known: Mapping[Path, bytes] = field(default_factory=dict, repr=False)


# What is in a file, and its status; None: who may write it was judged before.
Read = Callable[["Path"], tuple[bytes, "os.stat_result | None"]]


_NOTHING: Final[Mapping[Path, bytes]] = MappingProxyType({})


class FaultyConfiguration(FaultyInput):
    """Faulty settings or allow-lists.

    `identity` is where the settings say the own certificate is, if they could: whoever judges a whole sidecar goes on
    there, so that all faults are told at once. `files` are all files that were read or looked for: what to watch.
    """

    def __init__(self, problems: Iterable[Problem], identity: IdentitySettings | None, files: tuple[Path, ...]) -> None:
        super().__init__(problems)
        self.identity = identity
        self.files = files


def load_configuration(path: Path, *, generation: int = 1, known: Mapping[Path, bytes] = _NOTHING) -> Configuration:
    """Read the sidecar's file at `path` and every allow-list it names, each once; blocks on the file system.

    `generation` counts these loads and is handed on to the policies. Raises FaultyConfiguration with every problem
    of every file. It judges who may write the allow-lists and their directories (`unsafe_key_mode = true` waives that),
    and does not look at the identity directory, but for who we are where that chooses the allow-list. `known` is of
    the configuration that is in force, and not read again.
    """
    return _load(path, generation, _unless(known))


def load_and_keep(path: Path, *, generation: int = 1, known: Mapping[Path, bytes] = _NOTHING) -> Configuration:
    """Do as `load_configuration`, and keep the contents of the files, for `load_kept` in another process."""
    contents: dict[Path, bytes] = {}
    first = _unless(known)

    def read(file: Path) -> tuple[bytes, os.stat_result | None]:
        content, status = first(file)
        contents[file] = content
        return content, status

    return replace(_load(path, generation, read), contents=contents)


def _unless(known: Mapping[Path, bytes]) -> Read:
    """Read files, but for those that are known."""

    def read(file: Path) -> tuple[bytes, os.stat_result | None]:
        return (known[file], None) if file in known else read_file(file)

    return read


def load_kept(path: Path, contents: Mapping[Path, bytes], *, generation: int) -> Configuration:
    """Return what `load_and_keep` made of these contents, whatever the files say by now.

    Raises FaultyConfiguration when it was not made of them.
    """

    def read(file: Path) -> tuple[bytes, None]:
        try:
            return contents[file], None
        except KeyError:
            raise UnreadableFile.not_handed_on() from None

    return _load(path, generation, read)


def _load(path: Path, generation: int, read: Read) -> Configuration:
    (reading, status), file = _read(path, read), file_name(path)
    sources, faults = _sources(reading, read)
    policies, more = _load_policies(reading, sources, file, generation, read)
    faults += more
    if status is not None:
        # The file that names the allow-lists is the same authority as they are; what it says cannot waive that.
        faults = [*_own_authority(path), *faults]
    problems = dict.fromkeys([*reading.problems, *faults])  # one directory may hold many allow-lists: told once
    files = (path.absolute(), *dict.fromkeys(each for source in sources.values() for each in source.files))
    if problems or reading.settings is None:
        raise FaultyConfiguration(problems, reading.identity, files)
    of_listener = {each.name: policies[each.policy] for each in reading.settings.inbound}
    known = dict(chain for source in sources.values() for chain in source.chains)
    return Configuration(reading.settings, MappingProxyType(of_listener), files, known=known)


def _own_authority(path: Path) -> list[Problem]:
    try:
        return authority_problems(path, path.stat())
    except (OSError, UnreadableFile):
        return []  # gone since it was read: the next look will say so


def load_admin(path: Path) -> AdminSettings:
    """Read where the sidecar of the file at `path` can be asked, whatever else is wrong with the file.

    Raises FaultyInput when the file cannot be read at all.
    """
    return _read(path, read_file)[0].admin


def _read(path: Path, read: Read) -> tuple[Reading, os.stat_result | None]:
    file = file_name(path)
    try:
        content, status = read(path)
    except UnreadableFile as error:
        raise FaultyInput([Problem(file, error.found, "a sidecar's TOML file", error.remedy)]) from None
    return read_settings(parse_toml(content, file=file), base=path.absolute().parent), status


def _sources(reading: Reading, read: Read) -> tuple[dict[Path | PolicyDirectory, Mirrored], list[Problem]]:
    """Return where each allow-list that is named is to be found, and what is wrong with that."""
    found: dict[Path | PolicyDirectory, Mirrored] = {}
    problems: list[Problem] = []
    for source in dict.fromkeys(use.policy for use in reading.policies):
        if isinstance(source, PolicyDirectory):
            try:
                found[source] = mirrored(source, reading.identity, read)
                if not reading.unsafe_key_mode:
                    problems += found[source].authority
            except FaultyInput as faulty:
                found[source] = Mirrored(None, None, ())
                problems += faulty.problems
        else:
            found[source] = Mirrored(None, source, (source,))
    return found, problems


def _load_policies(
    reading: Reading, sources: Mapping[Path | PolicyDirectory, Mirrored], file: str, generation: int, read: Read
) -> tuple[dict[Path | PolicyDirectory, Policy], list[Problem]]:
    """Load each allow-list once, judging it also against the listeners that name it."""
    uses: dict[Path | PolicyDirectory, list[PolicyUse]] = {}
    for use in reading.policies:
        uses.setdefault(use.policy, []).append(use)
    policies: dict[Path | PolicyDirectory, Policy] = {}
    problems: list[Problem] = []
    for source, listeners in uses.items():
        path = sources[source].list_file
        if path is None:  # nobody knows yet whose it is: nobody is let in
            policies[source] = compile_policy(Document(_named(source), (), ""), generation=generation)
            continue
        tcp = (f'listener "{u.listener}" ({file}:{u.place.line})' for u in listeners if u.protocol is Protocol.TCP)
        try:
            content, status = read(path)
            if status is not None and not reading.unsafe_key_mode:
                problems += authority_problems(path, status)
            document = parse_allow_list(content, file=file_name(path), tcp_listener=next(tcp, None))
            problems += sources[source].broken(document)
            if reading.settings is not None and reading.settings.audit is None:
                problems += _unrecordable(document, file)
            policies[source] = compile_policy(document, generation=generation)
        except UnreadableFile as error:
            place = listeners[0].place
            found = f"{error.found}: {file_name(path)}"
            expected = "the listener's allow-list (`allow = []` in it lets nobody in)"
            problems.append(Problem(file, found, expected, error.remedy, place.line, place.where))
        except FaultyInput as faulty:
            problems += faulty.problems
    return policies, problems


def _unrecordable(document: Document, file: str) -> list[Problem]:
    """The rules whose grants are to be recorded, where there is no audit log."""
    return [
        Problem(
            document.file,
            f'`audit = "all"` in rule {quote(rule.name)}, and no file to record its grants in',
            f"[audit] in {file}",
            f'Add [audit] with `file = "audit.jsonl"` to {file}, or remove `audit`',
            rule.line,
        )
        for rule in document.rules
        if rule.recorded
    ]


def _named(source: Path | PolicyDirectory) -> str:
    return file_name(source.path if isinstance(source, PolicyDirectory) else source)
