"""`policy = "dir:policies/"`: the allow-list that mirrors the own identity's path, and the promises of its directory.

Who we are, the identity's certificate says. Until there is one nobody is let in; it is among the files that are
watched, so the list is there as soon as the identity is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding

from ca.identity_directory import CHAIN
from ca.svid import LeafError, read_chain, read_leaf
from meshproxy.errors import FaultyInput, Problem
from meshproxy.policy import invariants
from meshproxy.policy.estate import file_of
from meshproxy.settings.files import UnreadableFile, authority_problems, file_name

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    from ca.spiffe_id import SpiffeId
    from meshproxy.policy.document import Document
    from meshproxy.settings.schema import IdentitySettings, PolicyDirectory

    Read = Callable[[Path], tuple[bytes, "os.stat_result | None"]]


_MOST_TOLD: Final = 100  # of what breaks promises; `policy check` tells all


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a directory of allow-lists holds for the identity `own`; None: there is no identity yet.

    `list_file` is where its allow-list is or should be, `files` are all that decide: what to watch for a reload.
    """

    own: SpiffeId | None
    list_file: Path | None
    files: tuple[Path, ...]
    promises: tuple[invariants.Invariant, ...] = ()
    authority: tuple[Problem, ...] = ()  # what is wrong with who may write the promises
    chains: tuple[tuple[Path, bytes], ...] = ()  # where and what the certificate is that says who we are

    def broken(self, document: Document) -> list[Problem]:
        """What the allow-list grants against the promises of its directory."""
        if self.own is None:
            return []
        found = invariants.violations(
            self.promises, self.own.path, document.rules, home=self.own.trust_domain, now=datetime.now(UTC)
        )
        return [
            Problem(
                document.file,
                f"rule {each.rule.name!r}, which breaks {each.invariant.name!r}: {each.found}",
                f"what {each.invariant.file}:{each.invariant.line} promises",
                "Narrow the rule, or ask whoever answers for the promise",
                each.rule.line,
            )
            for each in islice(found, _MOST_TOLD)
        ]


def mirrored(source: PolicyDirectory, identity: IdentitySettings | None, read: Read) -> Mirrored:
    """Find the allow-list of whoever we are, and read the promises of its directory (blocking).

    Raises FaultyInput for promises that cannot be read: nobody can say whether they are kept.
    """
    if identity is None:  # the settings are faulty, and say so
        return Mirrored(None, None, ())
    chain, promised = identity.dir / CHAIN, source.path / invariants.FILE
    own, content = _own(chain, read)
    list_file = None if own is None else source.path / file_of(own.path)
    files = (chain, promised) if list_file is None else (list_file, chain, promised)
    chains = () if own is None else ((chain, content),)
    return Mirrored(own, list_file, files, *_promises(promised, read), chains)


def _own(chain: Path, read: Read) -> tuple[SpiffeId | None, bytes]:
    """Who the certificate says we are; None while there is none that can be read: the identity's own look tells why."""
    try:
        content, _ = read(chain)
        leaf = read_chain(content)[0]
        return read_leaf(leaf.public_bytes(Encoding.DER)).id, content
    except (UnreadableFile, LeafError, ValueError):
        return None, b""


def _promises(file: Path, read: Read) -> tuple[tuple[invariants.Invariant, ...], tuple[Problem, ...]]:
    try:
        content, status = read(file)
        # Whoever may write them may take them back. Of a file that was handed on, who read it has looked.
        authority = () if status is None else tuple(authority_problems(file, status))
    except UnreadableFile as error:
        if error.is_missing:
            return (), ()
        name = file_name(file)
        raise FaultyInput([Problem(name, error.found, "the promises of this directory", error.remedy)]) from None
    return invariants.read_invariants(content, file=file_name(file)), authority
