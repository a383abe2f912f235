"""Whatever is done to a log is found, as far as a checkpoint covers it; what cannot be found is said."""

from __future__ import annotations

import base64
import hashlib
import io
from typing import TYPE_CHECKING

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ca import base64url
from meshproxy.audit import checkpoints
from meshproxy.audit.chain import chained
from meshproxy.audit.checkpoints import Seal
from meshproxy.audit.lines import Checkpoint, Missing, Opened, Why, decode, encode
from meshproxy.audit.verify import Demands, Report, Verifier, in_order
from tests.audit.conftest import Chain, decision, signer_of
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from meshproxy.audit.checkpoints import Signer
    from tests.factory import MeshCa

API = "spiffe://mesh.test/api"


def judged(
    *files: Sequence[bytes], bundle: bytes | None = None, signer: str = "", known: tuple[Seal, ...] = ()
) -> Report:
    verifier = Verifier(Demands(bundle, signer, known))
    for number, lines in enumerate(files, 1):
        verifier.take(f"file-{number}", lines)
    return verifier.report()


def story(signer: Signer, at: str, *, decisions: int = 6) -> Chain:
    """Two checkpoints, and an end in order."""
    chain = Chain(signer, at)
    chain.opens()
    for number in range(decisions):
        chain.add(decision(number, path=f"/orders/{number}", method="GET"))
        if number == decisions // 2:
            chain.seals()
    chain.seals(Why.STOPPED)
    return chain


def test_what_was_written_is_sound(signer: Signer, at: str, bundle: bytes) -> None:
    chain = story(signer, at)
    report = judged(chain.lines, bundle=bundle, signer=API)
    assert report.sound, report.faults
    assert (report.begins_at, report.reached, report.covered, report.decisions) == (1, 9, 8, 6)
    assert (report.checkpoints, report.signers, report.ended, report.chain) == (2, [API], True, "c0ffee")


def test_prev_is_what_sha256sum_says_of_the_line_before(signer: Signer, at: str) -> None:
    lines = story(signer, at).lines
    assert hashlib.sha256(lines[3]).hexdigest().encode() in lines[4]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_one_change_is_found(signer: Signer, at: str, bundle: bytes, data: st.DataObject) -> None:
    lines = list(story(signer, at).lines)
    last = len(lines) - 1
    how = data.draw(st.sampled_from(["byte", "remove", "swap", "double", "insert", "cut"]))
    where = data.draw(st.integers(0, last))
    if how == "byte":
        line = bytearray(lines[where])
        place = data.draw(st.integers(0, len(line) - 1))
        line[place] ^= data.draw(st.integers(1, 255))
        lines[where] = bytes(line)
        lines = io.BytesIO(b"".join(lines)).readlines()
    elif how == "remove":
        where = min(where, last - 1)  # the last one's removal is a cut tail
        del lines[where]
    elif how == "swap":
        other = data.draw(st.integers(0, last).filter(lambda it: it != where))
        lines[where], lines[other] = lines[other], lines[where]
    elif how == "double":
        lines.insert(where, lines[where])
    elif how == "insert":
        lines.insert(where, encode(decision(9)) + b"\n")
    else:
        lines[where] = lines[where][: data.draw(st.integers(0, len(lines[where]) - 2))] + b"\n"
    report = judged(lines, bundle=bundle, signer=API)
    # The newline at the very end is no content: without it the last line counts as being written.
    assert not report.sound or (how == "byte" and report.being_written), how


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(kept=st.integers(0, 8), keep_checkpoint_of=st.integers(0, 1))
def test_a_cut_tail_shows_against_a_checkpoint_kept_elsewhere(
    signer: Signer, at: str, bundle: bytes, kept: int, keep_checkpoint_of: int
) -> None:
    chain = story(signer, at)
    seals = [Seal("c0ffee", seq, "", at, Why.INTERVAL) for seq in (5, 8)]
    known = Seal(
        "c0ffee",
        seals[keep_checkpoint_of].seq,
        hashlib.sha256(chain.lines[seals[keep_checkpoint_of].seq - 1]).hexdigest(),
        at,
        Why.INTERVAL,
    )
    report = judged(chain.lines[:kept], bundle=bundle, known=(known,))
    assert report.sound == (kept >= known.seq)
    if 0 < kept < known.seq:
        assert "the end is cut off" in report.faults[-1].text
    # Without it, and that is what the documentation warns of, it is sound.
    assert judged(chain.lines[:kept], bundle=bundle).sound == (kept > 0)


def test_lines_after_the_last_checkpoint_can_be_written_anew_and_are_said_to_be_unsigned(
    signer: Signer, at: str
) -> None:
    chain = Chain(signer, at)
    chain.opens()
    chain.seals()
    chain.add(decision(1))
    report = judged(chain.lines)
    assert (report.sound, report.reached, report.covered, report.ended) == (True, 3, 1, False)


def test_the_whole_chain_written_anew_is_not_the_one_that_was_kept(signer: Signer, at: str) -> None:
    chain, anew = story(signer, at), story(signer, at, decisions=5)
    known = Seal("c0ffee", 4, hashlib.sha256(anew.lines[3] + b"x").hexdigest(), at, Why.INTERVAL)
    assert "not the one" in judged(chain.lines, known=(known,)).faults[0].text
    other = Seal("decaf", 1, "0" * 64, at, Why.INTERVAL)
    assert "another chain" in judged(chain.lines, known=(other,)).faults[-1].text


# Who signs.


def test_another_identity_of_the_mesh_cannot_sign_for_this_one(chain: Chain, mesh: MeshCa, bundle: bytes) -> None:
    chain.opens()
    chain.seals()
    chain.seals(signer=signer_of(mesh.issue("/mallory")))
    report = judged(chain.lines, bundle=bundle)
    assert [each.line for each in report.faults] == [3]
    assert "signed by spiffe://mesh.test/mallory, expected spiffe://mesh.test/api" in report.faults[0].text
    assert report.covered == 1


def test_a_log_signed_by_somebody_else_throughout_is_found_when_its_owner_is_named(
    mesh: MeshCa, at: str, bundle: bytes
) -> None:
    chain = story(signer_of(mesh.issue("/mallory")), at)
    assert judged(chain.lines, bundle=bundle).sound
    assert not judged(chain.lines, bundle=bundle, signer=API).sound


def test_the_same_name_from_a_foreign_ca_is_not_vouched_for(tmp_path: Path, at: str, bundle: bytes) -> None:
    chain = story(signer_of(make_mesh_ca(tmp_path).issue("/api")), at)
    report = judged(chain.lines, bundle=bundle, signer=API)
    assert len(report.faults) == 2
    assert "for whom nobody vouches" in report.faults[0].text
    assert judged(chain.lines).sound


def test_a_certificate_signs_only_in_its_time(signer: Signer, bundle: bytes) -> None:
    chain = story(signer, "2031-01-01T00:00:00Z")
    assert "expired" in judged(chain.lines, bundle=bundle).faults[0].text


def test_a_leaf_renewed_under_the_same_name_may_go_on(
    chain: Chain, mesh: MeshCa, bundle: bytes, tmp_path: Path
) -> None:
    chain.opens()
    chain.seals()
    renewed = mesh.issue("/api", into=tmp_path / "renewed")
    chain.at = renewed.certificate.not_valid_before_utc.isoformat()
    chain.seals(signer=signer_of(renewed))
    assert judged(chain.lines, bundle=bundle, signer=API).sound


def test_a_checkpoint_does_not_fit_anywhere_else(chain: Chain, signer: Signer, at: str) -> None:
    chain.opens()
    chain.seals()
    [stolen] = [body for body in map(decode, chain.lines) if isinstance(body, Checkpoint)]
    chain.add(decision(1))
    chain.add(stolen)
    assert "it belongs elsewhere" in judged(chain.lines).faults[0].text
    other = Chain(signer, at, name="decaf")
    other.opens()
    seal = Seal("c0ffee", 1, other.head.hash, at, Why.INTERVAL)
    assert seal.chain != other.name
    other.seals()
    assert judged(other.lines).sound


def test_a_signer_whose_key_signs_nothing_here_is_refused(chain: Chain, mesh: MeshCa, tmp_path: Path) -> None:
    """It names no algorithm, as there is none for its curve."""
    key = ec.generate_private_key(ec.SECP224R1())
    identity = mesh.forge(into=tmp_path / "odd", uris=[API], key=key)
    x5c = [base64.b64encode(identity.der).decode()]
    header = msgspec.json.encode({"alg": "", "typ": checkpoints.KIND, "x5c": x5c})
    chain.opens()
    seal = msgspec.json.encode(Seal("c0ffee", 1, chain.head.hash, chain.at, Why.INTERVAL))
    chain.add(Checkpoint(chain.at, base64url.encode(seal), base64url.encode(header), base64url.encode(bytes(56))))

    [fault] = judged(chain.lines).faults

    assert "which its signer's key does not do" in fault.text


# Several files.


def rotated(signer: Signer, at: str) -> list[list[bytes]]:
    chain, files = Chain(signer, at), []
    for why in (Why.NEW, Why.ROTATED, Why.ROTATED):
        begins = len(chain.lines)
        chain.opens(why)
        chain.add(decision(1))
        chain.seals(Why.ROTATED)
        files.append(chain.lines[begins:])
    return files


def test_the_chain_goes_on_across_files(signer: Signer, at: str, bundle: bytes) -> None:
    report = judged(*rotated(signer, at), bundle=bundle)
    assert (report.sound, report.reached, len(report.files)) == (True, 9, 3)


def test_a_file_that_is_gone_leaves_a_gap(signer: Signer, at: str) -> None:
    first, _, third = rotated(signer, at)
    [fault] = judged(first, third).faults
    assert str(fault) == "file-2:1: lines 4 to 6 of the chain are missing"


def test_files_that_are_put_away_are_said_not_to_be_here(signer: Signer, at: str, bundle: bytes) -> None:
    report = judged(*rotated(signer, at)[1:], bundle=bundle)
    assert (report.sound, report.begins_at) == (True, 4)


def test_the_cut_end_of_a_file_put_aside_is_found(signer: Signer, at: str) -> None:
    first, second, _ = rotated(signer, at)
    assert not judged(first[:-1], second).sound


def test_files_are_sorted_by_their_chains(signer: Signer, at: str) -> None:
    first, second, third = rotated(signer, at)
    other = Chain(signer, at, name="decaf")
    other.opens()
    files = [("a", third[0]), ("b", first[0]), ("c", other.lines[0]), ("d", second[0]), ("e", b"?")]
    assert in_order(files) == [["b", "d", "a"], ["c"], ["e"]]


# After a crash.


@pytest.mark.parametrize("cut", [1, 40, 150])
def test_a_cut_line_is_accounted_for_by_who_went_on(chain: Chain, cut: int) -> None:
    chain.opens()
    chain.add(decision(1))
    fragment = chained(chain.head, encode(decision(2)))[:cut]
    chain.lines.append(fragment + b"\n")
    told = Opened(chain.at, chain.name, Why.RESTARTED, "0", len(fragment), hashlib.sha256(fragment).hexdigest())
    line = chained(chain.head, encode(told))
    report = judged([*chain.lines, line])
    assert (report.sound, report.crashes, report.reached) == (True, 1, 3), report.faults
    untold = chained(chain.head, encode(Opened(chain.at, chain.name, Why.RESTARTED, "0")))
    assert [each.line for each in judged([*chain.lines, untold]).faults] == [3]


def test_a_line_being_written_is_no_fault(chain: Chain) -> None:
    chain.opens()
    report = judged([*chain.lines, chained(chain.head, encode(decision(1)))[:30]])
    assert (report.sound, report.being_written, report.reached) == (True, True, 1)


def test_what_found_no_room_is_counted(chain: Chain) -> None:
    chain.opens()
    chain.add(Missing(chain.at, 17))
    assert judged(chain.lines).missing == 17


@pytest.mark.parametrize("content", [[], [b"\n"], [b"{}\n"], [b"\xff\n"] * 500, [b'{"seq":1}\n'], [b"[" * 100_000]])
def test_what_is_no_audit_log_is_found_faulty(content: list[bytes]) -> None:
    report = judged(content)
    assert not report.sound or report.being_written
    assert len(report.faults) <= 100
