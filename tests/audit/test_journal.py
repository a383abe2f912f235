"""The file and its thread, with real files: what was accepted is there, whatever the disk and the process do."""

from __future__ import annotations

import dataclasses
import os
import random
import resource
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from meshproxy import __version__
from meshproxy.audit.chain import Head
from meshproxy.audit.file import AuditFile
from meshproxy.audit.journal import Journal
from meshproxy.audit.lines import Decision, Missing, Opened, Why, decode
from meshproxy.audit.verify import Demands, Verifier, in_order
from meshproxy.errors import FaultyInput
from meshproxy.settings.schema import AuditSettings
from tests.audit.conftest import decision
from tests.hearing import listening_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from meshproxy.audit.checkpoints import Signer
    from meshproxy.audit.verify import Report
    from tests.hearing import Heard

PATIENCE = 10.0


def until(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_for(journal: Journal) -> None:
    until(lambda: journal.depth == 0)


class Desk:
    """A journal on a real file, opened and closed as often as wanted."""

    def __init__(self, place: Path, signer: Signer, at: str) -> None:
        self.place, self.signer, self.at = place, signer, at
        self.settings = AuditSettings(place, checkpoint_every=3600.0)
        self.heard: Heard
        self._open: list[Journal] = []

    def journal(self, *, capacity: int = 1000, **more: Any) -> Journal:
        log, self.heard = listening_log()
        journal = Journal(
            AuditFile.open(self.place, lambda: self.at),
            dataclasses.replace(self.settings, **more),
            signer=lambda: self.signer,
            stamp=lambda: self.at,
            log=log,
            capacity=capacity,
        )
        self._open.append(journal)
        return journal

    def files(self) -> list[Path]:
        return sorted(self.place.parent.glob("audit.jsonl*"))

    def report(self) -> Report:
        [chain] = in_order([(str(file), file.read_bytes().partition(b"\n")[0] + b"\n") for file in self.files()])
        verifier = Verifier(Demands())
        for file in chain:
            with Path(file).open("rb") as stream:
                verifier.take(str(file), stream)
        return verifier.report()

    def report_of(self, file: Path) -> Report:
        verifier = Verifier(Demands())
        with file.open("rb") as stream:
            verifier.take(file.name, stream)
        return verifier.report()

    def leave(self) -> None:
        for journal in self._open:
            journal.close()


@pytest.fixture
def desk(place: Path, signer: Signer, at: str) -> Iterator[Desk]:
    desk = Desk(place, signer, at)
    yield desk
    desk.leave()


def test_all_that_is_put_is_there_in_order_and_signed(desk: Desk) -> None:
    journal = desk.journal()
    assert all(journal.put(decision(number % 60)) for number in range(500))
    journal.close()
    report = desk.report()
    assert (report.sound, report.decisions, report.ended) == (True, 500, True), report.faults
    assert report.covered == report.reached - 1
    assert desk.place.stat().st_mode & 0o777 == 0o640
    assert [event["covers"] for event in desk.heard.named("audit_checkpoint")] == [501]


def test_a_decision_is_durable_soon_and_without_the_end(desk: Desk) -> None:
    journal = desk.journal()
    journal.put(decision(1))
    until(lambda: journal.figures.records == 1)
    assert desk.report().decisions == 1
    assert journal.depth == 0


def test_a_restart_goes_on_with_the_chain(desk: Desk) -> None:
    for _ in range(3):
        journal = desk.journal()
        journal.put(decision(1))
        journal.close()
    report = desk.report()
    assert (report.sound, report.decisions, report.crashes, report.ended) == (True, 3, 0, True), report.faults


@pytest.mark.parametrize("cut", [1, 50, 0])
def test_what_a_crash_has_cut_is_closed_and_gone_on_behind(desk: Desk, cut: int) -> None:
    journal = desk.journal()
    journal.put(decision(1))
    journal.close()
    whole = desk.place.read_bytes()
    lines = whole.splitlines(keepends=True)
    desk.place.write_bytes(b"".join(lines[:2]) + lines[1][: cut or -1].replace(b'"seq":2', b'"seq":3'))
    if not cut:
        # A whole line that only lacks its newline.
        desk.place.write_bytes(b"".join(lines[:2])[:-1])
    journal = desk.journal()
    journal.put(decision(2))
    journal.close()
    report = desk.report()
    assert (report.sound, report.crashes, report.decisions) == (True, 1, 2), report.faults


def test_a_crash_in_the_very_first_line_is_outlived(desk: Desk) -> None:
    desk.place.write_bytes(b'{"seq":1,"pre')
    desk.journal().close()
    assert desk.report().sound


def test_files_are_put_aside_and_the_chain_goes_on(desk: Desk) -> None:
    journal = desk.journal(rotate_size=4096)
    for number in range(60):
        journal.put(decision(number))
        if number % 20 == 19:
            until(lambda: journal.depth == 0)
            time.sleep(0.05)
    journal.close()
    report = desk.report()
    assert len(report.files) >= 3
    assert (report.sound, report.decisions, report.begins_at) == (True, 60, 1), report.faults
    desk.files()[2].unlink()  # the first is the newest
    assert not desk.report().sound


def test_a_crash_between_two_files_is_outlived(desk: Desk) -> None:
    journal = desk.journal()
    journal.put(decision(1))
    journal.close()
    desk.place.rename(desk.place.with_name("audit.jsonl.000000000003"))
    journal = desk.journal()
    journal.put(decision(2))
    journal.close()
    report = desk.report()
    assert (report.sound, report.decisions, len(report.files)) == (True, 2, 2), report.faults


def test_what_cannot_be_written_is_not_accepted_and_the_rest_is_written_when_there_is_room(desk: Desk) -> None:
    journal = desk.journal()
    journal.put(decision(1))
    until(lambda: journal.depth == 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (desk.place.stat().st_size + 100, before[1]))
    try:
        accepted = journal.put(decision(2))
        until(lambda: journal.failing)
        assert journal.crowded
        assert [journal.put(decision(3)) for _ in range(7)] == [False] * 7
        assert not desk.place.read_bytes().endswith(b"\n")  # cut in the middle of a line
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert accepted
    until(lambda: not journal.failing)
    assert journal.put(decision(4))
    journal.close()
    report = desk.report()
    assert (report.sound, report.decisions, report.missing) == (True, 3, 7), report.faults
    assert (journal.figures.records, journal.figures.refused) == (3, 7)
    [failed] = desk.heard.named("audit_log_failed")
    assert failed["error"] == "File too large"
    assert desk.heard.named("audit_log_good_again")


def test_a_slow_disk_fills_the_room_and_no_more(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on = threading.Event()
    journal = desk.journal(capacity=10)
    sync = os.fdatasync

    def slow(descriptor: int) -> None:
        assert may_go_on.wait(PATIENCE)
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    journal.put(decision(0))
    until(lambda: journal.depth == 1 and not journal.crowded)
    until(lambda: journal._writing == 1)
    assert [journal.put(decision(1)) for _ in range(12)] == [True] * 10 + [False] * 2
    assert (journal.crowded, journal.failing) == (True, False)
    may_go_on.set()
    until(lambda: journal.depth == 0)
    assert not journal.crowded
    journal.close()
    report = desk.report()
    assert (report.decisions, report.missing) == (11, 2)


def test_without_an_identity_it_records_unsigned(desk: Desk) -> None:
    log, _ = listening_log()
    journal = Journal(
        AuditFile.open(desk.place, lambda: desk.at), desk.settings, signer=lambda: None, stamp=lambda: desk.at, log=log
    )
    journal.put(decision(1))
    journal.close()
    report = desk.report()
    assert (report.sound, report.decisions, report.covered) == (True, 1, 0)


def test_a_checkpoint_comes_after_so_many_lines(desk: Desk) -> None:
    journal = desk.journal(checkpoint_lines=2)
    for number in range(4):
        journal.put(decision(number))
        until(lambda: journal.depth == 0)
    until(lambda: journal.figures.checkpoints >= 2)


def test_a_checkpoint_comes_after_some_time_with_news_and_not_without(desk: Desk) -> None:
    journal = desk.journal(checkpoint_every=0.05)
    until(lambda: journal.figures.checkpoints == 1)  # of the opening itself
    assert journal._nap() is None, "without news it sleeps until there is some"
    journal.put(decision(1))
    until(lambda: journal.figures.checkpoints == 2)


# What is no place for it.


def test_two_processes_cannot_write_one_file(desk: Desk) -> None:
    desk.journal()
    with pytest.raises(FaultyInput, match="another process writes"):
        AuditFile.open(desk.place, lambda: desk.at)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda place: place.mkdir(), "cannot be written"),
        (lambda place: place.symlink_to("elsewhere"), "cannot be written"),
        (os.mkfifo, "no file of its own"),
        (lambda place: place.write_text("dear diary\n"), "not of an audit log"),
        (lambda place: place.write_text("x" * 3_000_000), "not of an audit log"),
        (lambda place: (place.touch(), place.chmod(0o666)), "writable by everyone"),
        (lambda place: (place.with_name("a").touch(), place.hardlink_to(place.with_name("a"))), "several names"),
        (lambda place: place.parent.chmod(0o777), "its directory"),
        (lambda place: place.parent.rmdir(), "no directory"),
    ],
)
def test_what_is_no_place_for_an_audit_log_is_told(place: Path, make: Callable[[Path], object], told: str) -> None:
    make(place)
    with pytest.raises(FaultyInput, match=told):
        AuditFile.open(place, str)
    if place.is_file():
        assert not place.read_bytes().endswith(b"}\n")  # nothing was put into it


def test_a_file_says_how_it_is(place: Path) -> None:
    file = AuditFile.open(place, lambda: "now")
    assert repr(file).startswith(f"<AuditFile {place} at 1, ")
    assert file.head != Head()
    file.close()
    assert decode(place.read_bytes()) == Opened("now", file.chain, Why.NEW, __version__)


def test_lines_are_as_documented() -> None:
    assert isinstance(decode(b'{"seq":1,"prev":"","event":"missing","ts":"t","count":3}'), Missing)
    assert decode(
        b'{"seq":1,"prev":"","event":"decision","ts":"t","listener":"l","caller":"c","serial":"s","peer":"p","id":"i"}'
    ) == Decision("t", "l", "c", "s", "p", "i")


def test_a_file_that_cannot_be_put_aside_grows_and_nothing_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = desk.journal(rotate_size=1)

    def refuse(_self: Path, _target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        journal.put(decision(1))
        until(lambda: bool(desk.heard.named("audit_log_not_rotated")))
        assert journal.put(decision(2))
        until(lambda: journal.figures.records == 2)
        assert not journal.failing
        assert len(desk.heard.named("audit_log_not_rotated")) == 1  # and not for each of them
    journal.close()
    report = desk.report_of(desk.place)
    assert (report.sound, report.decisions) == (True, 2), report.faults


def test_killed_again_and_again_it_goes_on(desk: Desk) -> None:
    """A process that is killed leaves the file wherever it was: cut at any byte behind what was durable."""
    dice = random.Random(7)
    durable = 0
    for _ in range(20):
        journal = desk.journal()
        journal.put(decision(1))
        journal.put(decision(2))
        wait_for(journal)
        before = desk.place.stat().st_size
        durable += 2
        journal.put(decision(3))
        journal.close()
        with desk.place.open("r+b") as file:
            file.truncate(dice.randint(before, desk.place.stat().st_size))
    desk.journal().close()
    report = desk.report()
    assert report.sound, report.faults
    assert durable <= report.decisions <= durable + 20
