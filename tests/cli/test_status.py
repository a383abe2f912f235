"""Asking a sidecar how it is, and waiting for it: against one that says what the test wants, over real sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

import msgspec
import pytest
from click.testing import CliRunner

from meshproxy.admin.status import (
    ConfigurationStatus,
    ExpiringRule,
    IdentityStatus,
    ListenerStatus,
    ObjectionStatus,
    PolicyStatus,
    Status,
    TrustStatus,
    UnusedRules,
    WorkerStatus,
)
from meshproxy.cli import status as room
from meshproxy.cli.main import cli
from meshproxy.cli.status import in_words

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

IDENTITY = IdentityStatus("spiffe://mesh.test/api", True, "", "", "/id", 1, "t0", "")
LOADED = ConfigurationStatus(3, "abcdef012345", "2026-11-01T00:00:00Z", "", "")
SERVING = Status("1", 7, "t0", "serving", "side.toml", IDENTITY, LOADED, (), (), (), 0, 0)


def but(**changes: object) -> Status:
    return msgspec.structs.replace(SERVING, **changes)


def objection(number: int, outcome: str = "would_deny") -> ObjectionStatus:
    return ObjectionStatus(
        "api", outcome, "spiffe://mesh.test/web", f"GET /{number}", "path", 40 - number, "t", "rule-1"
    )


class Sidecar:
    """Answers one after another of `answers` to whoever asks, the last one again and again."""

    def __init__(self, workspace: Path, *answers: Status | bytes) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.file = workspace / "side.toml"
        self.path = workspace / "admin.sock"
        self.file.write_text(f'[identity]\ndir = "id"\n[admin]\nlisten = "unix:{self.path}"\n')
        self._listener = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                answer = self._answers[min(self.asked, len(self._answers) - 1)]
                self.asked += 1
                body = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments], prog_name="meshproxy")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_POLL_EVERY", 0.001)
    monkeypatch.setattr(room, "_ASK_EVERY", 0.0)


# wait-ready


def test_it_waits_until_the_sidecar_serves(tmp_path: Path) -> None:
    with Sidecar(tmp_path, but(state="refusing"), but(state="refusing"), SERVING) as sidecar:
        waited = run("wait-ready", sidecar.file)
        assert (waited.exit_code, waited.output, sidecar.asked) == (0, "", 3)


@pytest.mark.parametrize("state", ["refusing", "draining"])
def test_one_that_does_not_serve_in_time_is_told_with_its_reason(tmp_path: Path, state: str) -> None:
    identity = msgspec.structs.replace(IDENTITY, ready=False, reason="our certificate expired")
    with Sidecar(tmp_path, but(state=state, identity=identity)) as sidecar:
        waited = run("wait-ready", "--timeout", "50ms", sidecar.file)
    assert waited.exit_code == 1
    assert waited.output == f"meshproxy: not ready after 50ms: it is {state}: our certificate expired\n"


def test_one_that_is_not_there_is_waited_for_in_vain(tmp_path: Path) -> None:
    file = tmp_path / "side.toml"
    file.write_text(f'[admin]\nlisten = "unix:{tmp_path}/none"\n')
    waited = run("wait-ready", "--timeout", "20ms", file)
    assert waited.exit_code == 1
    assert "not ready after 20ms: no sidecar answers at unix:" in waited.output
    assert f"meshproxy run {file}" in waited.output


def test_one_that_never_answers_is_not_waited_for_longer_than_told(tmp_path: Path) -> None:
    file = tmp_path / "side.toml"
    file.write_text(f'[admin]\nlisten = "unix:{tmp_path}/silent"\n')
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        started = time.monotonic()
        waited = run("wait-ready", "--timeout", "50ms", file)
    assert waited.exit_code == 1
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--timeout", "soon", "side.toml"), "--timeout 'soon': expected"),
        (("missing.toml",), "missing.toml does not say where its sidecar can be asked"),
    ],
)
def test_usage_is_another_matter(arguments: tuple[str, ...], words: str) -> None:
    waited = run("wait-ready", *arguments)
    assert waited.exit_code == 2
    assert words in waited.output


# status


@pytest.mark.parametrize(("state", "code"), [("serving", 0), ("refusing", 1), ("draining", 1)])
def test_the_exit_code_says_whether_it_serves(tmp_path: Path, state: str, code: int) -> None:
    with Sidecar(tmp_path, but(state=state)) as sidecar:
        assert run("status", sidecar.file).exit_code == code


def test_what_answers_but_is_no_sidecar_is_told(tmp_path: Path) -> None:
    with Sidecar(tmp_path, b'{"hello": 1}') as sidecar:
        asked = run("status", sidecar.file)
    assert asked.exit_code == 2
    assert "is not a meshproxy sidecar of this version" in asked.output


@pytest.mark.parametrize("as_json", [False, True])
def test_watching_asks_again_until_interrupted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    as_json: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """It outlives answers that fail: a sidecar that restarts is what one watches."""
    rounds = iter(range(2))

    def sleep(_seconds: float) -> None:
        if next(rounds, None) is None:
            raise KeyboardInterrupt

    with Sidecar(tmp_path, SERVING, b"no status", but(state="draining")) as sidecar:
        monkeypatch.setattr("meshproxy.cli.status.time.sleep", sleep)
        watched = run("status", "--watch", *(["--json"] if as_json else []), sidecar.file)
    assert watched.exit_code == 0
    assert sidecar.asked == 3
    if as_json:
        lines = [msgspec.json.decode(line) for line in watched.output.splitlines() if line]
        assert [line.get("state") for line in lines] == ["serving", None, "draining"]
        assert "not a meshproxy sidecar" in lines[1]["error"]
    else:
        assert "serving  side.toml" in watched.output
        assert "not a meshproxy sidecar" in watched.output
        assert "draining  side.toml" in watched.output


# In words


def test_the_files_in_force_are_told() -> None:
    assert "files       generation 3, hash abcdef012345, loaded 2026-11-01T00:00:00Z\n" in in_words(SERVING)
    assert "failed" not in in_words(SERVING)


def test_a_failed_reload_is_told_problem_by_problem() -> None:
    failed = ConfigurationStatus(3, "abc", "t1", "t2", "a.toml:3: found x; expected y -> Do z; b.toml: found none")
    told = in_words(but(configuration=failed))
    assert "            last reload failed t2; the last good one is in force\n" in told
    assert "a.toml:3: found x" in told
    assert "b.toml: found none" in told


def test_objections_are_told_the_most_frequent_first_and_the_rest_counted() -> None:
    objections = (objection(0, "deny"), *(objection(number) for number in range(1, 12)))
    told = in_words(but(objections=objections, objections_beyond=5))
    assert "      40 x  api  denied spiffe://mesh.test/web GET /0  (path)\n            rule-1\n" in told
    assert "      39 x  api  would deny spiffe://mesh.test/web GET /1  (path)\n" in told
    assert "GET /10" not in told
    assert f"  {30 + 29 + 5:6} x  others; more of them: meshproxy status --json" in told


def test_without_objections_nothing_is_said_of_them() -> None:
    assert "since start, the most" not in in_words(SERVING)


def test_workers_are_told_where_there_are_several() -> None:
    workers = (
        WorkerStatus(1, 4711, "serving", 3, 0, 3, 1),
        WorkerStatus(2, 4712, "serving", 0, 2, 2, 1),
        WorkerStatus(3, 0, "waiting", 0, 1, 0, 0),
    )
    assert in_words(but(workers=workers)).splitlines()[2:5] == [
        "worker 1    pid 4711, serving, 3 open",
        "worker 2    pid 4712, serving, 0 open, started again 2 times, generation 2",
        "worker 3    waiting, 0 open, started again once",
    ]
    assert "worker" not in in_words(SERVING)


TRUST = TrustStatus(4, 7, "t7", 61.0, "t9", None, "allow", 1, 0, (), "")


@pytest.mark.parametrize(
    ("trust", "lines"),
    [
        (TRUST, ["deny-list   number 7, 1 entry, 1m 1s old", "bundle      number 4"]),
        (
            msgspec.structs.replace(TRUST, entries=2, retired=1, stale_seconds=60.0, bundle_sequence=None),
            [
                "deny-list   number 7, 2 entries, 1 retired intermediates, 1m 1s old",
                '            stale for 1m (since t9); stale_deny_list = "allow"',
            ],
        ),
        (
            msgspec.structs.replace(TRUST, deny_list=None, stale_policy="deny", bundle_sequence=None),
            ['deny-list   none; stale_deny_list = "deny"'],
        ),
        (
            msgspec.structs.replace(
                TRUST, deny_list=None, bundle_sequence=None, federated=("a.test", "b.test"), last_error="it is gone"
            ),
            ["federated   a.test, b.test", "            trust.json: it is gone"],
        ),
        (msgspec.structs.replace(TRUST, deny_list=None, bundle_sequence=None), []),
        (None, []),
    ],
)
def test_what_is_trusted_is_told_in_words(trust: TrustStatus | None, lines: list[str]) -> None:
    identity = msgspec.structs.replace(IDENTITY, trust=trust)
    without = in_words(SERVING).splitlines()
    assert [line for line in in_words(but(identity=identity)).splitlines() if line not in without] == lines


def test_rules_that_end_soon_and_rules_that_nobody_used_are_told() -> None:
    policy = PolicyStatus(
        "api.allow.toml",
        "abcdef012345",
        2,
        14,
        ("old",),
        (ExpiringRule("audit", "2026-11-02T00:00:00.000Z", 90_000.0),),
        (UnusedRules("t1", tuple(f"r{number}" for number in range(10))), UnusedRules("t2", ("late",))),
    )
    listener = ListenerStatus(
        "api", "inbound", "a:1", "b:2", "http", 0, 9, {}, {}, {}, 0, {}, 0, mode="enforce", policy=policy
    )
    said = in_words(but(listeners=(listener,)))
    assert "            expired: old\n            expires: audit in 1d 1h\n" in said
    assert "            unused since t1: r0, r1, r2, r3, r4, r5, r6, r7 and 2 more\n" in said
    assert "            unused since t2: late\n" in said
