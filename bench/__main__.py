"""`make bench`: measure, print one table, save it as JSON. Ctrl-C ends everything that was started."""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.contest import Contest, tell
from bench.machine import describe_machine, describe_versions
from bench.options import Options
from bench.peers import PEERS, find_peer
from bench.processes import BenchError, find_cores, need_program
from bench.results import Report, to_json
from bench.rows import ROWS, select_rows
from bench.table import render_text

if TYPE_CHECKING:
    from types import FrameType

    from bench.peers import Peer

_DEFAULTS: Final = Options()
_RESULTS: Final = Path(__file__).resolve().parent / "results"
_INTERRUPTED: Final = 130  # as a shell says it


def main() -> int:
    """Run the benchmark; returns 0 when every row was measured, 1 when not, 2 for wrong usage."""
    arguments = _parse()
    options = Options(
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        ghostunnel=arguments.ghostunnel,
        peer_logs=arguments.peer_logs == "on",
    )
    signal.signal(signal.SIGTERM, _stop)
    try:
        report = _measure(arguments.only, arguments.peers, options)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; nothing was left running", file=sys.stderr)
        return _INTERRUPTED
    tell("")
    print(render_text(report))
    path = arguments.json or _RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_json(report))
    print(f"saved     {path}")
    return 1 if report.failures else 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default="", help=f"rows, separated by commas, of: {', '.join(ROWS)}")
    parser.add_argument("--peers", default="", help=f"peers, separated by commas, of: {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=_DEFAULTS.rounds, help="turns of each contestant")
    parser.add_argument("--seconds", type=int, default=_DEFAULTS.seconds, help="of load per turn")
    parser.add_argument("--ghostunnel", type=Path, help="where it is, if not on PATH")
    parser.add_argument("--peer-logs", choices=("on", "off"), default="on", help="let peers write access logs too")
    parser.add_argument("--json", type=Path, help="where to save the samples")
    return parser.parse_args()


def _measure(only: str, peers: str, options: Options) -> Report:
    rows, wanted = select_rows(only), _select_peers(peers)
    need_program("wrk", "wrk")
    cores, machine = find_cores(), describe_machine()
    os.sched_setaffinity(0, {cores.load})  # whatever is started and not told otherwise is load
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    present = [peer for peer in wanted if find_peer(peer, options.ghostunnel) is not None]
    contest = Contest(options, cores, present)
    blocks, failures = [], {}
    for row in rows:
        try:
            blocks += row.run(contest)
        except BenchError as error:
            failures[row.name] = str(error)
    return Report(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        machine=machine,
        versions=describe_versions(present, options),
        options={"rounds": str(options.rounds), "seconds": str(options.seconds)},
        missing={peer.name: peer.install for peer in wanted if peer not in present},
        blocks=blocks,
        failures=failures,
    )


def _select_peers(names: str) -> list[Peer]:
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(PEERS)
    wrong = [name for name in wanted if name not in PEERS]
    if wrong:
        raise BenchError(f"no peer is called {', '.join(wrong)}; the peers are {', '.join(PEERS)}")
    return [PEERS[name] for name in wanted]


if __name__ == "__main__":
    sys.exit(main())
