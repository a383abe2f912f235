"""`meshproxy top`: what sidecars do, second by second, in a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from ca import json_text
from meshproxy.cli.asking import NoAnswer, admin_address, get_good
from meshproxy.cli.sight import SECONDS, Answers, sight_of
from meshproxy.cli.terminal import example, fail, print_json, printable, wants_colour
from meshproxy.cli.top_screen import NARROWEST, ORDERS, Look, lines_of
from meshproxy.settings.schema import DEFAULT_ADMIN
from meshproxy.units import parse_duration
from meshproxy.wire.address import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from meshproxy.cli.sight import Sight
    from meshproxy.wire.address import Address

_PATIENCE: Final = 2.0  # seconds for one page of one sidecar
_AT_ONCE: Final = 16  # sidecars asked at a time
_SELDOM: Final = 5.0  # seconds between two looks at what changes slowly
_QUITS: Final = frozenset({"q", "Q", "\x03", "\x04", "\x1b"})  # the last alone: Esc
# ECMA-48 and xterm: the other screen and back, cursor away and back, to the top, what is left of a line, of the screen.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


@click.command(
    epilog=example(
        "meshproxy top",
        "meshproxy top web.toml api.toml",
        "meshproxy top 127.0.0.1:9901 unix:/run/mesh/api.sock --once",
    )
)
@click.argument("sidecars", metavar="[FILE|ADDRESS]...", nargs=-1)
@click.option("--once", is_flag=True, help="Print one look, and end.  [default where stdout is no terminal]")
@click.option("--json", "as_json", is_flag=True, help="Print one look as JSON, and end.")
@click.option("--every", default="1s", metavar="DURATION", show_default=True, help="How often to look.")
def top(sidecars: tuple[str, ...], *, once: bool, as_json: bool, every: str) -> None:
    """Watch who calls whom, how often, how long it takes, and what is refused.

    Each sidecar is named by its settings FILE, or by its admin ADDRESS (host:port, or unix:/path); without any the
    default 127.0.0.1:9900 is asked. Rates, errors and times are of the last minute. Keys: q ends; r e l d sort by rate,
    errors, latency, denials. One look exits with 0, with 1 when somebody did not answer, and 2 when nobody did.
    """
    try:
        pause = max(parse_duration(every), 0.1)
    except ValueError as error:
        fail(f"--every {printable(every)}: expected {error}")
    onlookers = Onlookers([_address(each) for each in sidecars] or [DEFAULT_ADMIN])
    if as_json or once or not (sys.stdout.isatty() and sys.stdin.isatty()):
        sight = onlookers.look()
        if as_json:
            print_json(sight)
        else:
            click.echo("\n".join(lines_of(sight, _look(shutil.get_terminal_size((100, 0)), height=0))))
        raise SystemExit(0 if not sight.unreachable else 2 if sight.unreachable == len(sight.sidecars) else 1)
    with contextlib.suppress(KeyboardInterrupt):
        _watch(onlookers, pause)


class Onlookers:
    """Asks all sidecars at once."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        self._threads = ThreadPoolExecutor(min(len(addresses), _AT_ONCE))
        self._before: dict[Address, Answers] = {}
        self._seldom_at = 0.0

    def __repr__(self) -> str:
        return f"<Onlookers at {len(self._addresses)}>"

    def look(self) -> Sight:
        """Return what there is to be seen; waits for the slowest, a few seconds at most."""
        seldom = time.monotonic() >= self._seldom_at
        if seldom:
            self._seldom_at = time.monotonic() + _SELDOM
        before = {} if seldom else self._before
        asked = [self._threads.submit(_ask, each, before.get(each)) for each in self._addresses]
        found = [each.result() for each in asked]
        self._before = {at: each for at, each in zip(self._addresses, found, strict=True) if not each.fault}
        return sight_of(found, time.time())

    def close(self) -> None:
        """Wait for nobody."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _ask(address: Address, before: Answers | None) -> Answers:
    """Ask one sidecar; what changes slowly is taken from `before`."""

    def page(path: str) -> bytes:
        return get_good(address, path, within=_PATIENCE)

    try:
        graph = page(f"/topology?window={SECONDS}")
        # By the sidecar's own clock, which may differ from ours.
        since = _timestamp(graph) - SECONDS
        series = page(f"/series?tier=1s&since={since}")
        answers = Answers(str(address), "", page("/mesh"), graph, series, connections=page("/connections"))
        if before is not None:
            return replace(answers, denials=before.denials, certificates=before.certificates)
        return replace(answers, denials=page("/denials"), certificates=page("/certificates"))
    except NoAnswer as no_answer:
        return Answers(str(address), str(no_answer).replace(f" at {address}", ""))


class _Stamped(msgspec.Struct):
    timestamp: float


def _timestamp(graph: bytes) -> float:
    try:
        return json_text.read(graph, _Stamped).timestamp
    except ValueError:
        raise NoAnswer("what answers is no sidecar of this version") from None


def _address(text: str) -> Address:
    if not Path(text).exists():
        try:
            return parse_address(text)
        except ValueError as error:
            fail(f"{printable(text)} is no file; as an address it should be {error}")
    return admin_address(Path(text))


def _look(size: os.terminal_size, *, height: int, order: str = "r", is_live: bool = False) -> Look:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return Look(max(size.columns, NARROWEST), height, wants_colour(sys.stdout), encoding == "utf8", order, is_live)


def _live_look(order: str) -> Look:
    # The terminal itself is asked: what COLUMNS says was so when a shell began, and windows change.
    size = os.get_terminal_size(sys.stdout.fileno())
    return _look(size, height=size.lines, order=order, is_live=True)


def _watch(onlookers: Onlookers, pause: float) -> None:
    """Show a look after the other until somebody quits."""
    order = "r"
    with _screen() as resized, ThreadPoolExecutor(1) as looking:
        try:
            under_way, sight, due = looking.submit(onlookers.look), None, time.monotonic()
            while True:
                if under_way.done() and time.monotonic() >= due:
                    sight, due = under_way.result(), time.monotonic() + pause
                    under_way = looking.submit(onlookers.look)
                if sight is not None:
                    _show(lines_of(sight, _live_look(order)))
                key = _key(resized, 0.05 if sight is None else min(max(due - time.monotonic(), 0.05), pause))
                if key in _QUITS:
                    return
                order = key if key in ORDERS else order
        finally:
            onlookers.close()


def _show(lines: Sequence[str]) -> None:
    body = f"{_END_OF_LINE}\r\n".join(lines)
    sys.stdout.write(f"{_HOME}{body}{_END_OF_LINE}{_END_OF_SCREEN}")
    sys.stdout.flush()


def _key(resized: int, within: float) -> str:
    """Wait for a key; returns nothing after so many seconds, or when the terminal has another size."""
    ready, _, _ = select.select([sys.stdin, resized], [], [], within)
    if resized in ready:
        os.read(resized, 1024)
    if sys.stdin not in ready:
        return ""
    typed = os.read(sys.stdin.fileno(), 64).decode("ascii", "replace")
    return typed or "q"  # its end: nobody is there any more


@contextlib.contextmanager
def _screen() -> Iterator[int]:
    """Take the terminal over, and give it back as it was; yields a descriptor that is readable on a new size."""
    before = termios.tcgetattr(sys.stdin)
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)

    def enter() -> None:
        tty.setcbreak(sys.stdin)
        sys.stdout.write(_ENTER)
        sys.stdout.flush()

    def leave() -> None:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)

    def give_up(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def stop(_number: int, _frame: FrameType | None) -> None:
        leave()
        signal.raise_signal(signal.SIGSTOP)  # goes on here when it is continued
        enter()

    def look_up(_number: int, _frame: FrameType | None) -> None:
        """What wakes the loop is the byte that Python writes beside this."""

    handlers: dict[int, Callable[[int, FrameType | None], None]] = {
        signal.SIGWINCH: look_up,
        signal.SIGTERM: give_up,
        signal.SIGHUP: give_up,
        signal.SIGTSTP: stop,
    }
    old = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    enter()
    try:
        yield reading
    finally:
        leave()
        signal.set_wakeup_fd(wakeup)
        for number, handler in old.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
