"""The fast lane and what is familiar, held against guard and h11: they may decline a head, but never read another."""

from __future__ import annotations

from random import Random

from meshproxy.http.familiar import FamiliarAnswers, FamiliarRequests
from meshproxy.http.head import HeadLimits, RequestHead, ResponseHead
from tests.fuzz.target import Target
from tests.fuzz.targets.requests import WORDS
from tests.http.corpus import REQUESTS, RESPONSES
from tests.http.near_heads import lanes_on_request, lanes_on_response, near_head

_LIMITS = (HeadLimits(), HeadLimits(head_bytes=300, fields=4, target=20))
_METHODS = (b"GET", b"HEAD", b"POST")
_DICE = Random(9112)


def _run(data: bytes) -> None:
    kind, raw = data[0] if data else 0, data[1:]
    limits = _LIMITS[kind & 1]
    if kind & 2:
        method = _METHODS[kind >> 2 & 1]
        fast, slow = lanes_on_response(method, raw, limits)
        assert fast is None or fast == slow
        answers = FamiliarAnswers(limits)
        for _ in range(2):  # once it is learnt, and once it is known
            known = answers.recognise(method, raw)
            if known is not None:
                head, end = known
                assert head == lanes_on_response(method, raw[:end], limits)[1]
                assert isinstance(head, ResponseHead)
        return
    quick, long = lanes_on_request(raw, limits)
    assert quick is None or quick == long
    requests = FamiliarRequests(limits)
    for _ in range(2):
        found = requests.recognise(raw)
        if found is not None:
            asked, end = found
            assert asked == lanes_on_request(raw[:end], limits)[1]
            assert isinstance(asked, RequestHead)


TARGET = Target(
    _run,
    (
        *(b"\0" + case.raw for case in REQUESTS if len(case.raw) < 500),
        *(b"\2" + case.raw for case in RESPONSES if len(case.raw) < 500),
        *(bytes((_DICE.choice((0, 1)),)) + near_head(_DICE, response=False) for _ in range(60)),
        *(bytes((_DICE.choice((2, 3, 6, 7)),)) + near_head(_DICE, response=True) for _ in range(60)),
    ),
    WORDS,
)
