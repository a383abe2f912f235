"""The project's own corpus, and, where it is present, the shared one beside the repository."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from meshproxy.http.codec import RequestReader, ResponseReader
from meshproxy.http.fields import outgoing_trailers
from meshproxy.http.forwarded import forwarded_head
from meshproxy.http.head import BadMessage, Field, HeadLimits, RequestHead, ResponseHead
from meshproxy.http.target import parse_target
from meshproxy.policy.match import PathPattern
from tests.http.corpus import REQUESTS, RESPONSES, Case
from tests.http.texts import fields_in, is_complete_with

_SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "corpus"
_needs_shared = pytest.mark.skipif(not _SHARED.is_dir(), reason="../shared/corpus is not here")

# The contract refuses `//` and dot segments before any rule, which RFC 9112 alone would let pass.
_REFUSED_BY_CONTRACT = {
    "gunicorn-valid-100": "//",
    "go-scheme-relative": "//",
    "nginx-uri-foo_bar_args-783": ".",
    "nginx-uri-foo_bar_args-785": "..",
}

Read = tuple[RequestHead, bytes, tuple[Field, ...]]


def _read_requests(raw: bytes, step: int) -> tuple[list[Read], BadMessage | None]:
    """The requests read to their end, and the refusal that followed; fed in portions of `step` bytes."""
    reader = RequestReader(HeadLimits())
    whole: list[Read] = []
    head, body = None, b""
    try:
        for start in range(0, len(raw), step):
            reader.feed(raw[start : start + step])
            while (event := reader.next()) is not None:
                trailers: tuple[Field, ...] = ()
                if isinstance(event, RequestHead):
                    head, body = event, b""
                else:
                    body += event.payload
                    trailers = event.trailers
                if is_complete_with(event):
                    assert head is not None
                    whole.append((head, body, trailers))
    except BadMessage as bad:
        return whole, bad
    return whole, None


def _read_responses(case: Case, step: int) -> tuple[list[tuple[bytes, bytes, bytes]], BadMessage | None]:
    reader = ResponseReader(HeadLimits())
    whole: list[tuple[bytes, bytes, bytes]] = []
    asked = list(case.asked)
    status, body = b"", b""
    reader.expect(asked.pop(0))
    try:
        for start in range(0, len(case.raw) + step, step):
            if start < len(case.raw):
                reader.feed(case.raw[start : start + step])
            else:
                reader.eof()
            while (event := reader.next()) is not None:
                if isinstance(event, ResponseHead):
                    status, body = b"%d" % event.status, b""
                else:
                    body += event.payload
                if is_complete_with(event):
                    whole.append((status, b"", body))
                    if asked:
                        reader.expect(asked.pop(0))
    except BadMessage as bad:
        return whole, bad
    return whole, None


def test_there_are_a_hundred_cases_and_each_has_its_own_name() -> None:
    names = Counter((case.name, case.raw) for case in REQUESTS + RESPONSES)
    assert len(names) == len(REQUESTS + RESPONSES) >= 150


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_requests_are_read_or_refused(case: Case, step: int) -> None:
    whole, bad = _read_requests(case.raw, step)
    assert tuple((head.method, head.target.as_origin_form(), body) for head, body, _ in whole) == case.reads
    assert (bad.status if bad else None) == case.refused


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("case", RESPONSES, ids=lambda case: case.name)
def test_responses_are_read_or_refused(case: Case, step: int) -> None:
    whole, bad = _read_responses(case, step)
    assert tuple(whole) == case.reads
    assert (bad.status if bad else None) == case.refused


def _alike(row: dict[str, Any], whole: list[Read]) -> bool:
    """Whether what was read is a beginning of one of the readings the RFC permits."""

    def same(wanted: dict[str, Any], head: RequestHead, body: bytes) -> bool:
        return (
            wanted["method"] == head.method.decode()
            and wanted["body_len"] == len(body)
            and wanted["body_sha"] == hashlib.sha256(body).hexdigest()[:16]
            and _origin_form(wanted["target"]) == head.target.as_origin_form().decode()
        )

    return any(
        len(whole) <= len(reading) and all(same(w, h, b) for w, (h, b, _) in zip(reading, whole, strict=False))
        for reading in row["requests"]["alts"]
    )


def _origin_form(target: str) -> str:
    """Without scheme and authority; a simple oracle, right for the corpus' targets."""
    if target.lower().startswith(("http://", "https://")):
        rest = target.partition("://")[2]
        cut = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
        target = rest[cut:] if rest[cut:].startswith("/") else "/" + rest[cut:]
    return target


def _leaks(row: dict[str, Any], whole: list[Read]) -> bool:
    for head, _, trailers in whole:
        request = forwarded_head(head, client_id=b"ours", request_id=b"r", traceparent=b"t", host=None)
        sent = fields_in(request) + outgoing_trailers(trailers)
        values = {name.lower().decode(): value.lower().decode("latin-1") for name, value in sent}
        text = b"".join(name + value for name, value in sent)
        if (
            any(name in values for name in row.get("forbid_headers", ()))
            or any(bad in values.get(name, "") for name, bad in row.get("forbid_values", {}).items())
            or any(name not in values for name in row.get("require_headers", ()))
            or any(bad.encode() in text for bad in row.get("forbid_bytes", ()))
            or values["x-mesh-client-id"] != "ours"
        ):
            return True
    return False


def _verdict(row: dict[str, Any], step: int) -> str:
    whole, bad = _read_requests(base64.b64decode(row["raw_b64"]), step)
    if not _alike(row, whole):
        return "SMUGGLED"
    if _leaks(row, whole):
        return "LEAK"
    if row["expect"] == "reject":
        refused = bad is not None or row["level"] == "incomplete"
        return "ok" if refused and len(whole) <= row["requests"]["clean"] else "FORWARDED"
    if row["expect"] == "accept" and len(whole) < row["requests"]["min"]:
        return "OVERSTRICT"
    return "ok"


@_needs_shared
@pytest.mark.parametrize("step", [1 << 20, 7])
def test_the_shared_corpus(step: int) -> None:
    rows = json.loads((_SHARED / "http1_cases.json").read_text())
    figures: Counter[tuple[str, str]] = Counter()
    misses = {}
    for row in rows:
        group = "accept" if row["expect"] == "accept" else row["level"]
        verdict = _verdict(row, step)
        figures[group, verdict] += 1
        figures[group, "all"] += 1
        if verdict != "ok":
            misses[row["id"]] = verdict

    def line(*groups: str) -> str:
        return f"{sum(figures[g, 'ok'] for g in groups)}/{sum(figures[g, 'all'] for g in groups)}"

    print(
        f"\nsplit at {step}: MUST-reject {line('must', 'incomplete')}, strict {line('strict')},"
        f" CONNECT {line('policy')}, accept {line('accept')}, either {line('either')}; misses {misses}"
    )
    assert misses == dict.fromkeys(_REFUSED_BY_CONTRACT, "OVERSTRICT")
    assert len(rows) == 931


@_needs_shared
def test_the_shared_corpus_mutated_never_breaks_the_reader() -> None:
    """Ten seeded one-byte mutations each: another request, or a refusal, but never another exception."""
    import random  # noqa: PLC0415 - the one test that rolls dice

    rng = random.Random(9112)
    for row in json.loads((_SHARED / "http1_cases.json").read_text()):
        raw = base64.b64decode(row["raw_b64"])
        for _ in range(10):
            mutated = bytearray(raw)
            mutated[rng.randrange(len(raw))] = rng.randrange(256)
            whole = _read_requests(bytes(mutated), 7)[0]
            assert [w[:2] for w in whole] == [w[:2] for w in _read_requests(bytes(mutated), 1 << 20)[0]]


# There are no deny rules: what the second policy of the list denies is what its allow-list leaves out.
_POLICIES = {
    "allow": ("/public", "/public/**"),
    "deny": ("/", "/admi", "/adminx", "/administrator/**", "/app/**", "/public/**", "/x/**"),
}


@_needs_shared
@pytest.mark.parametrize("policy", ["allow", "deny"])
def test_the_shared_path_list(policy: str) -> None:
    patterns = [PathPattern.parse(text) for text in _POLICIES[policy]]
    figures: Counter[str] = Counter()
    for row in json.loads((_SHARED / "path_bypass.json").read_text()):
        if policy not in row["safe"]:
            continue
        raw = b"GET " + base64.b64decode(row["target_b64"]) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
        whole, _ = _read_requests(raw, 1 << 20)
        granted = any(pattern.match(head.target.path.decode()) for head, _, _ in whole for pattern in patterns)
        safe = row["safe"][policy]
        verdict = "BYPASS" if granted and safe == "deny" else "OVERBLOCK" if not granted and safe == "allow" else "ok"
        figures[verdict] += 1
        if verdict != "ok":
            print(verdict, row["id"], row["target"], row["why"])
    print(f"\npath list, {policy}: BYPASS {figures['BYPASS']}, OVERBLOCK {figures['OVERBLOCK']} of {figures.total()}")
    assert figures["BYPASS"] == figures["OVERBLOCK"] == 0


def test_targets_are_judged_the_same_alone() -> None:
    """parse_target itself, not only through a head: what it returns it also accepts, unchanged."""
    for case in REQUESTS:
        for head, _, _ in _read_requests(case.raw, 1 << 20)[0]:
            again = parse_target(head.method, head.target.as_origin_form())
            assert (again.path, again.query) == (head.target.path, head.target.query)
