"""The exchange under thousands of seeded misfortunes: any portions, any phase, either side cut at any byte.

The client numbers its requests and the service repeats the number in its answer, so an answer that reaches the wrong
request shows. Both are read by strict readers: what is incomplete must not look complete on either side.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from meshproxy.errors import Failure
from meshproxy.http.codec import RequestReader, ResponseReader
from meshproxy.http.head import HeadLimits, RequestHead, ResponseHead
from meshproxy.http.phase import Need, Phase
from tests.http.screenplay import LIMITS, Play
from tests.http.texts import is_complete_with

_RUNS = 3000
_PORTIONS = 4


@dataclass
class Ask:
    """One request of the client, and what the service would answer."""

    number: int
    method: bytes
    raw: bytes
    body: bytes
    denied: bool
    answer: bytes
    answer_body: bytes
    until_close: bool


def _ask(rng: random.Random, number: int, *, last: bool) -> Ask:
    method = rng.choice([b"GET", b"POST", b"HEAD", b"PUT"])
    body = b""
    fields = b"Host: h\r\n"
    denied = rng.random() < 0.15
    if method in {b"POST", b"PUT"}:
        body = b"q%d" % number + rng.randbytes(rng.choice([0, 5, 300]))
        if rng.random() < 0.2:
            fields += b"Expect: 100-continue\r\n"
        if rng.random() < 0.5:
            fields += b"Content-Length: %d\r\n" % len(body)
            coded = body
        else:
            fields += b"Transfer-Encoding: chunked\r\n"
            coded = _chunked(rng, body)
    else:
        coded = b""
    old = last and rng.random() < 0.3
    raw = b"%b /%b/%d HTTP/1.%d\r\n%b\r\n" % (method, b"no" if denied else b"yes", number, not old, fields)
    if old and b"chunked" in fields:
        raw = raw.replace(b"HTTP/1.0", b"HTTP/1.1")
    answer_body = b"" if method == b"HEAD" else b"a%d:" % number + rng.randbytes(rng.choice([0, 9, 700]))
    answer = b"HTTP/1.1 103 Hints\r\n\r\n" * rng.choice([0, 0, 0, 1, 2])
    if b"Expect" in fields and rng.random() < 0.7:
        answer += b"HTTP/1.1 100 Continue\r\n\r\n"
    final = b"HTTP/1.1 200 OK\r\nX-Number: %d\r\n" % number
    if rng.random() < 0.2:
        final += b"Connection: close\r\n"
    how = rng.choice(["length", "chunked", "close"])
    if method == b"HEAD":
        how = "length"
    if how == "length":
        answer += final + b"Content-Length: %d\r\n\r\n" % len(answer_body) + answer_body
    elif how == "chunked":
        answer += final + b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(rng, answer_body)
    else:
        answer += final + b"\r\n" + answer_body
    return Ask(number, method, raw + coded, body, denied, answer, answer_body, how == "close")


def _chunked(rng: random.Random, body: bytes) -> bytes:
    coded, start = b"", 0
    while start < len(body):
        size = rng.randrange(1, 200)
        piece = body[start : start + size]
        coded += b"%x\r\n%b\r\n" % (len(piece), piece)
        start += size
    return coded + b"0\r\n" + b"X-Trailer: 1\r\n" * rng.randrange(2) + b"\r\n"


@dataclass
class Line:
    """One upstream connection as the service sees it."""

    reader: RequestReader
    responses: ResponseReader
    got: list[tuple[bytes, bytes]] = field(default_factory=list)
    now: RequestHead | None = None
    body: bytes = b""
    to_say: bytes = b""  # the rest of the answer to the current request
    cut: bool = False  # the rest of it will never be said
    clean: bool = True  # its end can be told from a cut
    ends: bool = False  # the stream ends behind the answer


class Scene:
    """Client, relay, pool and service, all in memory, and a die."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        count = rng.choice([1, 1, 2, 3, 5])
        self.asks = [_ask(rng, number, last=number == count - 1) for number in range(count)]
        stream = b"".join(ask.raw for ask in self.asks)
        self.cut_at = rng.randrange(len(stream)) if rng.random() < 0.3 else None
        self.unsaid = stream if self.cut_at is None else stream[: self.cut_at]
        self.client_how = rng.choice(["stays", "half-closes", "breaks"]) if self.cut_at is None else "breaks or ends"
        self.play = Play()
        self.relay = self.play.relay
        self.lines: list[Line] = []
        self.line: Line | None = None
        self.resting: list[Line] = []
        self.down = b""
        self.ending: Need | None = None
        self.client_gone = False

    # The driver's part.

    def act(self) -> None:
        relay = self.relay
        while True:
            up = b"".join(relay.to_upstream)
            relay.to_upstream.clear()
            if up and self.line is not None:
                self.hear_request(self.line, up)
            self.down += b"".join(relay.to_downstream)
            relay.to_downstream.clear()
            self.play.told += relay.finished
            relay.finished.clear()
            if not relay.needs:
                if not relay.held_back:
                    return
                relay.proceed(0.0)
                continue
            self.carry_out(relay.needs.popleft())

    def carry_out(self, need: Need) -> None:
        assert self.ending is None, "nothing is asked for behind the end"
        line = self.line
        if need is Need.UPSTREAM and self.resting:
            self.attach(self.resting.pop(), reused=True)
        elif need in {Need.RELEASE_UPSTREAM, Need.CLOSE_UPSTREAM, Need.DROP_UPSTREAM}:
            assert line is not None
            self.line = None
            if need is Need.RELEASE_UPSTREAM:
                assert not line.reader.mid_message
                assert not line.responses.mid_message
                assert not line.to_say
                assert not line.ends
                self.resting.append(line)
        elif need in {Need.CLOSE, Need.ABORT}:
            self.ending = need

    def attach(self, line: Line, *, reused: bool) -> None:
        assert self.line is None
        self.line = line
        self.relay.attach(line.responses, 0.0, reused=reused)

    def dial(self) -> None:
        if self.rng.random() < 0.1:
            self.relay.upstream_failed(Failure.CONNECT_REFUSED, "", 0.0)
        else:
            line = Line(RequestReader(HeadLimits()), ResponseReader(LIMITS))
            self.lines.append(line)
            self.attach(line, reused=False)

    # The service's part.

    def hear_request(self, line: Line, data: bytes) -> None:
        line.reader.feed(data)
        while (event := line.reader.next()) is not None:
            if isinstance(event, RequestHead):
                assert line.now is None, "one request at a time on an upstream connection"
                line.now, line.body = event, b""
                ask = self.asks[int(event.target.path.rpartition(b"/")[2])]
                line.to_say, line.ends = ask.answer, ask.until_close or b"Connection: close" in ask.answer
                line.cut = self.rng.random() < 0.2
                # Nobody can tell a clean end from a cut one in what runs until the end.
                line.clean = self.rng.random() < 0.7 and not (line.cut and ask.until_close)
                if line.cut:
                    line.to_say = line.to_say[: self.rng.randrange(len(line.to_say))]
            else:
                line.body += event.payload
            if is_complete_with(event):
                assert line.now is not None
                line.got.append((line.now.target.path, line.body))
                line.now = None

    def speak(self, line: Line) -> None:
        """The service says a piece, early or not; behind the last one, its end where there is one."""
        if line.to_say:
            size = self.rng.choice([1, 20, 100_000])
            said, line.to_say = line.to_say[:size], line.to_say[size:]
            self.relay.feed_response(said, 0.0)
        elif line.cut or line.ends:
            if self.rng.random() < 0.5:
                self.relay.upstream_ended(0.0, clean=line.clean)
            else:
                self.relay.upstream_lost("cut", 0.0)

    # The play.

    def run(self) -> None:
        moves = 0
        while self.ending is None and moves < 20_000:
            moves += 1
            before = (self.relay.phase, len(self.down), len(self.unsaid), self.line, len(self.lines))
            self.move()
            self.act()
            self.check_stable()
            if before == (self.relay.phase, len(self.down), len(self.unsaid), self.line, len(self.lines)):
                self.rescue()
                self.act()
            if self.relay.phase is Phase.IDLE and not self.unsaid and not self.client_gone:
                self.leave()
                self.act()
        assert self.ending is not None
        self.check()

    def move(self) -> None:
        rng, relay = self.rng, self.relay
        if self.unsaid and relay.wants_downstream and rng.random() < 0.5:
            size = rng.choice([1, 30, 100_000])
            said, self.unsaid = self.unsaid[:size], self.unsaid[size:]
            relay.feed(said, 0.0)
        elif relay.phase is Phase.CONNECTING:
            self.dial()
        elif self.line is not None and rng.random() < 0.7:
            self.speak(self.line)
        elif not self.unsaid and not self.client_gone and rng.random() < 0.2:
            self.leave()
        elif rng.random() < 0.002:
            relay.timed_out(0.0)

    def leave(self) -> None:
        self.client_gone = True
        if self.client_how == "half-closes" or (self.client_how == "breaks or ends" and self.rng.random() < 0.5):
            self.relay.downstream_ended(0.0)
        elif self.client_how == "stays":
            self.relay.timed_out(0.0)
        else:
            self.relay.downstream_lost("gone", 0.0)

    def rescue(self) -> None:
        """Nothing moved: what would in the end be a timeout may come now."""
        if self.rng.random() < 0.05:
            self.relay.timed_out(0.0)

    def check_stable(self) -> None:
        phase = self.relay.phase
        assert not self.relay.needs
        assert (self.line is not None) == (phase in {Phase.EXPECTING, Phase.BODY, Phase.AWAITING, Phase.ANSWERING}), (
            f"{phase} with {self.line}"
        )
        assert (phase is Phase.OVER) == (self.ending is not None)

    def check(self) -> None:
        self.check_service()
        complete = self.check_client()
        numbers = [int(t.head.target.path.rpartition(b"/")[2]) for t in self.play.told if t.head is not None]
        assert numbers == sorted(set(numbers)), "each exchange is told once"
        assert complete <= len(self.play.told)
        assert self.relay.exchange in self.play.told or self.relay.exchange.head is None

    def check_service(self) -> None:
        """Whatever reached it complete was sent complete, unchanged, was granted, and came at most twice."""
        said = sum(len(ask.raw) for ask in self.asks) - len(self.unsaid)
        sent = 0
        for line in self.lines:
            for path, body in line.got:
                ask = self.asks[int(path.rpartition(b"/")[2])]
                assert not ask.denied
                assert body == ask.body
                sent = sum(len(each.raw) for each in self.asks[: ask.number + 1])
                assert sent <= said
                assert self.cut_at is None or sent <= self.cut_at
        times = Counter(path for line in self.lines for path, _ in line.got)
        for path, count in times.items():
            ask = self.asks[int(path.rpartition(b"/")[2])]
            assert count == 1 or (count == 2 and ask.method in {b"GET", b"HEAD"})

    def check_client(self) -> int:
        """Answers come in order, each to its request, each complete or seen to be cut; returns how many."""
        reader = ResponseReader(LIMITS)
        reader.feed(self.down)
        read = sum(told.head is not None for told in self.play.told)
        complete = 0
        for ask in self.asks:
            # Who was cut off in the middle of HEAD is answered as anybody is.
            reader.expect(ask.method if complete < read else b"GET")
            answer = self.next_answer(reader)
            if answer is None:
                return complete
            head, body = answer
            complete += 1
            if head.status == 200:
                assert b"\r\nX-Number: %d" % ask.number in head.carried
                assert body == ask.answer_body
                assert not ask.denied
            else:
                assert head.status in ({403, 408} if ask.denied else {400, 408, 502, 504})
        assert not reader.buffered
        return complete

    def next_answer(self, reader: ResponseReader) -> tuple[ResponseHead, bytes] | None:
        head, body = None, b""
        ended = self.ending is not Need.CLOSE  # only an orderly end completes what runs until the end
        while True:
            event = reader.next()
            if event is None:
                if ended:
                    return None
                reader.eof()  # raises for an orderly end in the middle of an answer
                ended = True
                continue
            if isinstance(event, ResponseHead):
                head = event
            else:
                body += event.payload
            if is_complete_with(event):
                assert head is not None
                return head, body


@pytest.mark.parametrize("portion", range(_PORTIONS))
def test_nothing_is_completed_that_was_cut_and_no_answer_goes_astray(portion: int) -> None:
    endings: Counter[str] = Counter()
    for seed in range(portion, _RUNS, _PORTIONS):
        scene = Scene(seed)
        try:
            scene.run()
        except BaseException as error:
            error.add_note(f"seed {seed}: {scene.relay!r}")
            raise
        endings.update("none" if told.failure is None else told.failure.word for told in scene.play.told)
        endings.update([scene.ending.name if scene.ending else ""])
    # The die has shown every face.
    assert min(endings[word] for word in ("none", "denied", "client_gone", "response_truncated", "CLOSE", "ABORT")) > 10
