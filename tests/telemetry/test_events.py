from __future__ import annotations

import json

import pytest

from meshproxy.telemetry.events import Logger, LogStyle, make_logger


class Kept:
    """Stands for a LogWriter."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def put(self, line: bytes) -> None:
        self.lines.append(line)

    @property
    def last(self) -> str:
        assert self.lines[-1].endswith(b"\n")
        return self.lines[-1].decode()[:-1]


@pytest.fixture
def kept() -> Kept:
    return Kept()


def logger(kept: Kept, style: LogStyle) -> Logger:
    return make_logger(kept, style)  # type: ignore[arg-type]  # all it asks of a writer is `put`


def test_a_json_event_has_level_time_and_its_fields(kept: Kept) -> None:
    logger(kept, LogStyle.JSON).warning("denied", caller="spiffe://mesh.test/web", untold=3, listeners={"a": "b"})
    event = json.loads(kept.last)
    assert event.pop("ts").endswith("Z")
    assert event == {
        "event": "denied",
        "level": "warning",
        "caller": "spiffe://mesh.test/web",
        "untold": 3,
        "listeners": {"a": "b"},
    }


@pytest.mark.parametrize("style", LogStyle)
def test_news_below_info_is_not_told(kept: Kept, style: LogStyle) -> None:
    logger(kept, style).debug("noise")
    assert kept.lines == []
    logger(kept, style).info("news")
    assert len(kept.lines) == 1


@pytest.mark.parametrize("style", LogStyle)
@pytest.mark.parametrize("text", ['x\n{"event":"forged"}', "\x1b[2J", "\u2028", "\u202e", "\x9b31m", "\udcff"])
def test_a_peers_text_writes_no_line_of_its_own_and_steers_no_terminal(kept: Kept, style: LogStyle, text: str) -> None:
    logger(kept, style).warning("handshake_failed", claimed=text)
    assert kept.last.isprintable()


def test_an_exception_is_told_whole_and_in_json_still_on_one_line(kept: Kept) -> None:
    log = logger(kept, LogStyle.JSON)
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        log.exception("internal_error", listener="api")
    event = json.loads(kept.last)
    assert event["level"] == "error"
    assert event["exception"].endswith("ZeroDivisionError: integer division or modulo by zero")
    assert "\n" not in kept.last


def test_what_json_has_no_word_for_is_told_as_text(kept: Kept) -> None:
    logger(kept, LogStyle.JSON).info("odd", thing=OSError(2, "No such file"))
    assert json.loads(kept.last)["thing"] == "[Errno 2] No such file"


def test_colours_are_for_terminals_that_want_them(kept: Kept) -> None:
    make_logger(kept, LogStyle.CONSOLE, colors=True).info("started")  # type: ignore[arg-type]
    assert "\x1b[" in kept.last
    make_logger(kept, LogStyle.CONSOLE).info("started")  # type: ignore[arg-type]
    assert "\x1b[" not in kept.last


@pytest.mark.parametrize("style", LogStyle)
def test_a_traceback_tells_no_values(kept: Kept, style: LogStyle) -> None:
    """A private key may be in a local variable of any frame."""

    def sign(key: str) -> None:
        held = [key]
        raise ZeroDivisionError(len(held))

    try:
        sign("MIGHAgEAMBMGByqGSM49".replace("M", "S"))
    except ZeroDivisionError:
        logger(kept, style).exception("internal_error")
    assert "ZeroDivisionError" in kept.last
    assert "in sign" in kept.last
    assert "SIGHAgEA" not in kept.last
