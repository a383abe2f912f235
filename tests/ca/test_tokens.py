"""Join tokens: one text for each, nothing believed that is damaged, and who may use one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca import base64url
from ca.refusals import Refused, Why
from ca.rows import Redemption, Token, TokenState
from ca.tokens import Again, JoinToken, TokenError, Use, decode, encode, redeem, refusal, secret_hash

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECRET = bytes(range(32))
TOKEN = JoinToken(bytes(16), SECRET, (bytes(32),), ("ca.internal:8440", "[fd00::1]:8440"))

tokens = st.builds(
    JoinToken,
    id=st.binary(min_size=16, max_size=16),
    secret=st.binary(min_size=32, max_size=32),
    pins=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=8).map(tuple),
    addresses=st.lists(st.sampled_from(["ca:1", "10.0.0.1:65535", "[::1]:8440", "a-b.c:80"]), max_size=8).map(tuple),
)


@given(token=tokens)
def test_round_trip(token: JoinToken) -> None:
    assert decode(encode(token)) == token


@given(token=tokens, data=st.data())
def test_nothing_but_the_whole_token_is_read(token: JoinToken, data: st.DataObject) -> None:
    text = encode(token)
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(TokenError):
        decode(text[:cut])
    for more in ("A", "\n", " ", "=", "AAAA"):
        with pytest.raises(TokenError):
            decode(text + more)


@given(text=st.text(max_size=200))
def test_garbage_is_refused_without_a_trace_of_it(text: str) -> None:
    with pytest.raises(TokenError) as error:
        decode("mj1." + text)
    assert len(text) < 12 or text not in str(error.value)


def test_a_token_is_never_printed_by_mistake() -> None:
    text = encode(TOKEN)
    for shown in (str(TOKEN), repr(TOKEN), f"{TOKEN}"):
        assert text not in shown
        assert SECRET.hex() not in shown
        assert repr(SECRET) not in shown
    assert len(text) < 240


def changed(position: int, value: int) -> str:
    content = bytearray(base64url.decode(encode(TOKEN).removeprefix("mj1.")))
    content[position] = value
    return "mj1." + base64url.encode(bytes(content))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not begin with mj1."),
        (encode(TOKEN).replace("mj1", "mj2"), "does not begin"),
        ("mj1." + "A" * 5000, "longer than 4096"),
        ("mj1.", "cut short"),
        ("mj1.A", "damaged"),
        (changed(0, 2), "of version 2, made by a later meshproxy"),
        (changed(49, 0), "something behind its end|one to eight roots"),
        (changed(49, 9), "cut short|one to eight"),
        (changed(82, 3), "cut short"),
        (changed(82, 1), "something behind its end"),
        (changed(84, 0xFF), "not host:port"),
        (changed(84, ord("/")), "not host:port"),
    ],
)
def test_a_damaged_token_is_refused(text: str, words: str) -> None:
    with pytest.raises(TokenError, match=words):
        decode(text)


@pytest.mark.parametrize(
    "address", ["ca", "ca:0", "ca:65536", ":1", "ca:1/x", "a b:1", "ca:1\n", "[::1:1", "user@ca:1"]
)
def test_addresses_are_checked(address: str) -> None:
    with pytest.raises(TokenError, match="not host:port"):
        JoinToken(bytes(16), SECRET, (bytes(32),), (address,))


def row(**changes: object) -> Token:
    fields: dict[str, object] = {
        "token": "00",
        "secret_sha256": secret_hash(SECRET),
        "id": "spiffe://mesh.test/web",
        "dns": (),
        "ips": (),
        "leaf_ttl": None,
        "created": NOW,
        "expires": NOW + timedelta(minutes=10),
        "uses": 1,
    }
    return Token(**fields | changes)  # type: ignore[arg-type]


def used(spki: str = "k1", use: int = 1, peer: str | None = "10.0.0.7:4431") -> Redemption:
    return Redemption(token="00", use=use, at=NOW, spki=spki, peer=peer, issuer="aa", serial=f"5{use}")


@pytest.mark.parametrize(
    ("token", "secret", "at", "why"),
    [
        (row(), SECRET, NOW, None),
        (row(), SECRET, NOW + timedelta(minutes=10), None),
        (row(used=1), SECRET, NOW, None),
        (None, SECRET, NOW, Why.WRONG_SECRET),
        (None, b"", NOW, Why.WRONG_SECRET),
        (row(), bytes(32), NOW, Why.WRONG_SECRET),
        (row(), SECRET[:-1], NOW, Why.WRONG_SECRET),
        (row(state=TokenState.REVOKED), bytes(32), NOW, Why.WRONG_SECRET),
        (row(state=TokenState.REVOKED), SECRET, NOW, Why.TOKEN_REVOKED),
        (row(state=TokenState.LOCKED), SECRET, NOW, Why.TOKEN_LOCKED),
        (row(state=TokenState.LOCKED), bytes(32), NOW, Why.TOKEN_LOCKED),
        (row(), SECRET, NOW + timedelta(minutes=10, seconds=1), Why.TOKEN_EXPIRED),
    ],
)
def test_who_may_use_a_token(token: Token | None, secret: bytes, at: datetime, why: Why | None) -> None:
    refused = refusal(token, secret, now=at)
    assert (refused.why if refused else None) is why


def test_a_wrong_secret_and_no_token_get_the_same_answer() -> None:
    assert refusal(None, SECRET, now=NOW) == refusal(row(), bytes(32), now=NOW)


def test_uses() -> None:
    assert redeem(row(), [], "k1") == Use(1)
    assert redeem(row(used=1), [used()], "k1") == Again(used())
    assert redeem(row(uses=2, used=1), [used()], "k2") == Use(2)
    assert redeem(row(uses=2, used=2), [used(), used("k2", 2)], "k1") == Again(used())
    refused = redeem(row(used=1), [used()], "k2")
    assert isinstance(refused, Refused)
    assert (refused.why, refused.alert) == (Why.TOKEN_USED, True)
    assert refused.text == (
        "this token was used by 10.0.0.7:4431 at 2026-11-22T12:00:00Z with another key; if that was not you, revoke "
        "serial 51"
    )
