"""Whoever reads JSON of others has one word for what is none; no bytes make a reader raise anything else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ca import (
    TrustDomain,
    base64url,
    configuration,
    deny_list,
    events,
    federation,
    issued_lines,
    json_text,
    messages,
    signed,
)
from ca import spiffe_bundle as bundles
from ca.bundle import BundleError
from ca.identity_directory import write_trust
from meshproxy.audit import chain, checkpoints, lines
from meshproxy.audit.verify import Demands, Verifier
from meshproxy.enroll import judging
from meshproxy.identity import trust_file
from meshproxy.policy.records import records_in
from meshproxy.settings.schema import IdentitySettings
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime.now(UTC)
DEEP = b'{"unasked":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
HOSTILE = {
    "deep": DEEP,
    "no UTF-8": b'{"unasked":"\xff"}',
    "half a surrogate": b'{"unasked":"\\ud800"}',
    "a huge number": b'{"unasked":1e999999}',
    "nothing": b"",
    "NUL": b"\0",
}
KINDS = pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE.keys())


def _checkpoint(said: bytes) -> object:
    text = base64url.encode(said)
    return checkpoints.read(lines.Checkpoint("", text, text, ""))


READERS: dict[str, tuple[Callable[[bytes], object], type[Exception]]] = {
    "json_text": (lambda said: json_text.read(said, messages.Trust), ValueError),
    "signed": (lambda said: signed.verify(said, kind="x", roots=(), now=NOW), signed.SignatureError),
    "deny_list": (
        lambda said: deny_list.read(said, home="mesh.test", roots=(), now=NOW),
        deny_list.DenyListError,
    ),
    "spiffe_bundle": (lambda said: bundles.read(said, home=None), BundleError),
    "event": (events.decode, ValueError),
    "checkpoint": (_checkpoint, checkpoints.CheckpointError),
    "audit line": (lines.decode, ValueError),
}


@KINDS
@pytest.mark.parametrize("reader", READERS)
def test_a_reader_has_one_word_for_it(reader: str, said: bytes) -> None:
    read, refusal = READERS[reader]
    with pytest.raises(refusal):
        read(said)


@KINDS
def test_those_who_pass_over_what_is_none_do(said: bytes) -> None:
    line = said + b"\n"
    assert chain.read_link(line) is None
    assert lines.opened_by(line) is None
    assert list(records_in([line])) == []
    assert issued_lines.read(line + line).faults or not said
    assert judging.kept_trust(said, home=TrustDomain("mesh.test"), now=NOW) is None
    verifier = Verifier(Demands())
    verifier.take("audit.jsonl", [line, line])
    assert not verifier.report().sound


@KINDS
def test_files_that_are_none_are_told(said: bytes, tmp_path: Path) -> None:
    identity = make_mesh_ca(tmp_path).issue("/web")
    write_trust(identity.directory, said)
    with pytest.raises(trust_file.FaultyTrust):
        trust_file.read_document(IdentitySettings(identity.directory))
    (tmp_path / "partner.json").write_bytes(said)
    assert list(federation._sound(tmp_path)) == []


def test_toml_that_is_nested_too_deeply_is_told() -> None:
    with pytest.raises(configuration.ConfigurationError, match="nested too deeply"):
        configuration.read(b"unasked = " + b"[" * 20_000)
